"""What goes by the default clocks: pings, keep-alives, waits, and clients that dawdle. All wait side by side."""

import threading
import time
import unittest

from hub import Contract, Hub
from sse import Sse
from wire import PING, Close, Closed, Ws, query, read_response, request_bytes

LONGEST = 100


class Slow(Contract):
    """Each watch runs from the start on a thread of its own and notes what it saw; the checks read the notes."""

    @classmethod
    def setUpClass(cls):
        cls.hub = Hub()
        cls.notes, cls.begun = {}, time.monotonic()
        watches = [getattr(cls, name) for name in dir(cls) if name.startswith("watch_")]
        cls.threads = {it.__name__: threading.Thread(target=cls.note, args=(it,), daemon=True) for it in watches}
        for thread in cls.threads.values():
            thread.start()

    @classmethod
    def note(cls, watch):
        try:
            cls.notes[watch.__name__] = watch()
        except Exception as error:
            cls.notes[watch.__name__] = error

    def noted(self, name):
        name = f"watch_{name}"
        self.threads[name].join(max(self.begun + LONGEST - time.monotonic(), 0))
        found = self.notes.get(name)
        if isinstance(found, Exception):
            raise found
        return found

    @classmethod
    def passed(cls):
        return time.monotonic() - cls.begun

    @classmethod
    def pinged(cls, **options):
        with Ws(cls.hub, {"topic": "t"}, **options) as ws:
            while ws.frame(LONGEST)[2] != PING:
                pass
            return cls.passed()

    @classmethod
    def watch_ping(cls):
        return cls.pinged()

    @classmethod
    def watch_raw_ping(cls):
        return cls.pinged(protocol=None)

    @classmethod
    def silent(cls, **options):
        with Ws(cls.hub, {"topic": "t"}, **options) as ws:
            ws.answer_pings = False
            try:
                code = ws.closing(LONGEST).code
            except Closed:
                code = None
            return cls.passed(), ws.pings, code

    @classmethod
    def watch_silent(cls):
        return cls.silent()

    @classmethod
    def watch_raw_silent(cls):
        return cls.silent(protocol=None)

    @classmethod
    def watch_answering(cls):
        with Ws(cls.hub, {"topic": "t"}) as ws:
            until = cls.begun + 85
            while (left := until - time.monotonic()) > 0:
                try:
                    item = ws.message(left)
                except TimeoutError:
                    break
                if isinstance(item, Close):
                    return item
            ws.tell({"publish": {"id": 1, "topic": "t", "data": 1}})
            return ws.until("published", "error")

    @classmethod
    def watch_unanswered_close(cls):
        with Ws(cls.hub, {"topic": "t"}) as ws:
            ws.text("nonsense")
            code = ws.closing().code
            return code, ws.link.ended(30), cls.hub.get("/health").status

    @classmethod
    def watch_unread_refusal(cls):
        with Ws(cls.hub, {"topic": "a..b"}, headers={"Origin": f"http://{cls.hub.authority}"}) as ws:
            return ws.closing().code, ws.link.ended(30), cls.hub.get("/health").status

    @classmethod
    def cut(cls, data, drip=b""):
        """When the hub ends a connection that sent `data` and then a byte now and then."""
        with cls.hub.link() as link:
            link.send(data)
            while cls.passed() < LONGEST - 5:
                if link.ended(1):
                    return cls.passed()
                try:
                    link.send(drip)
                except OSError:
                    return cls.passed()
            return None

    @classmethod
    def watch_no_byte(cls):
        return cls.cut(b"")

    @classmethod
    def watch_half_a_head(cls):
        return cls.cut(b"GET /health HTTP/1.1\r\nHost: a\r\nX-Slow: ", b"x")

    @classmethod
    def watch_half_a_body(cls):
        return cls.cut(request_bytes(cls.hub.address, "POST", "/topics/slow", [("Content-Length", "100000")]) + b"x", b"x")

    @classmethod
    def watch_keep_alive(cls):
        with Sse(cls.hub, {"topic": "idle"}) as stream:
            stream.until(lambda it: it.last_id)
            before = stream.parser.comments
            stream.until(lambda it: it.parser.comments > before, 40)
            return cls.passed()

    @classmethod
    def watch_heartbeat(cls):
        with Ws(cls.hub, {"topic": "idle"}) as ws:
            ws.next()
            ws.until("heartbeat", timeout=40)
            return cls.passed()

    @classmethod
    def watch_default_wait(cls):
        with cls.hub.link() as link:
            link.send(request_bytes(cls.hub.address, "GET", query("/longpoll", {"topic": "idle"})))
            return read_response(link, timeout=60).status, cls.passed()

    def test_a_ping_every_25_seconds(self):
        for name in ("ping", "raw_ping"):
            self.assertTrue(23 < self.noted(name) < 32, self.notes)

    def test_a_peer_silent_for_two_pings_is_closed(self):
        for name in ("silent", "raw_silent"):
            passed, pings, _ = self.noted(name)
            self.assertEqual(pings, 2)
            self.assertTrue(45 < passed < 90, passed)

    def test_a_peer_that_answers_stays(self):
        self.assertIn("published", self.noted("answering"))

    def test_a_close_frame_without_an_answer_ends_all_the_same(self):
        self.assertEqual(self.noted("unanswered_close"), (4400, True, 200))
        self.assertEqual(self.noted("unread_refusal"), (4400, True, 200))

    def test_who_dawdles_over_a_request_is_cut(self):
        for name in ("no_byte", "half_a_head", "half_a_body"):
            with self.subTest(name):
                self.assertIsNotNone(self.noted(name))
        self.assertEqual(self.hub.get("/topics/slow").status, 404)

    def test_the_default_keep_alive_is_15_seconds(self):
        for name in ("keep_alive", "heartbeat"):
            self.assertTrue(12 < self.noted(name) < 20, self.notes)

    def test_the_default_wait_is_25_seconds(self):
        status, passed = self.noted("default_wait")
        self.assertEqual(status, 200)
        self.assertTrue(24 < passed < 30, passed)


if __name__ == "__main__":
    unittest.main()
