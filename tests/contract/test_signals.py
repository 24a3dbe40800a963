"""Starting and stopping (section 8): the line, the signals, a thousand clients told where to go on."""

import resource
import signal
import socket
import subprocess
import time
import unittest

import hub as fixture
from hub import Contract, Hub
from sse import Sse
from wire import CLOSE, Closed, Link, Ws, query, read_response, request_bytes

MANY = 1000


class Signals(Contract):
    @classmethod
    def setUpClass(cls):
        pass

    @classmethod
    def tearDownClass(cls):
        pass

    def test_sigterm_and_sigint_end_it_with_0(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            hub = Hub()
            self.assertEqual(hub.get("/health/live").status, 200)
            hub.terminate(number)
            hub.wait(3)

    def test_each_start_is_an_epoch_of_its_own(self):
        first, second = Hub(), Hub()
        one, two = first.publish("t", 1), second.publish("t", 1)
        self.assertNotEqual(fixture.epoch(one), fixture.epoch(two))
        with Sse(second, {"topic": "t"}, {"Last-Event-ID": one}) as stream:
            self.assertEqual(stream.event().json()["gap"]["reason"], "reset")
        first.stop()
        second.stop()

    def test_an_idle_connection_holds_nothing_up(self):
        hub = Hub(drain=20)
        with hub.link() as link, hub.link():
            link.send(request_bytes(hub.address, "GET", "/health"))
            read_response(link)
            hub.terminate()
            hub.wait(5)

    def test_a_client_that_does_not_go_is_cut_at_the_limit(self):
        hub = Hub(drain=1)
        topic = "stuck"
        with Ws(hub, {"topic": topic}, receive_buffer=16384) as ws, Sse(hub, {"topic": topic}, receive_buffer=16384) as stream:
            ws.next()
            stream.until(lambda it: it.last_id)
            for _ in range(40):
                hub.publish(topic, b"x" * 500_000, "text/plain")
            hub.terminate()
            hub.wait(3)

    def test_new_requests_get_503_or_no_connection(self):
        hub = Hub(drain=5)
        with Ws(hub, {"topic": "t"}) as ws, hub.link() as kept:
            ws.next()
            kept.send(request_bytes(hub.address, "GET", "/health"))
            self.assertEqual(read_response(kept).status, 200)
            hub.terminate()
            self.assertEqual(ws.closing().code, 1001)
            for _ in range(5):
                try:
                    with hub.link() as link:
                        link.send(request_bytes(hub.address, "POST", "/topics/t", [("Content-Type", "text/plain")], b"x"))
                        got = read_response(link, timeout=2)
                    self.assertEqual(got.status, 503)
                    self.assertIsNotNone(got.header("retry-after"))
                    self.assertProblem(got, 503, outcome="not-applied")
                except (Closed, ConnectionError):
                    pass
            try:
                kept.send(request_bytes(hub.address, "GET", "/health"))
                self.assertEqual(read_response(kept).status, 503)
            except (Closed, ConnectionError):
                pass
            ws.send(CLOSE, b"\x03\xe9")
        hub.wait(7)

    def test_bad_flags_end_it_with_another_code(self):
        for flags in (["--no-such-flag"], ["--listen", "nonsense"], ["--engine", "none"], ["--jwt-hs256-file", "/nonexistent"],
                      ["--tls-cert", "/nonexistent"], ["--keep-alive", "x"], ["--retain-messages", "0"]):
            done = subprocess.run([fixture.BINARY, "--listen", "127.0.0.1:0", *flags] if flags[0] != "--listen" else
                                  [fixture.BINARY, *flags], capture_output=True, timeout=10)
            self.assertNotEqual(done.returncode, 0, flags)
            self.assertNotIn(b"panicked", done.stderr)
            self.assertTrue(done.stderr)
            self.assertEqual(done.stdout, b"")

    def test_a_port_that_is_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            done = subprocess.run([fixture.BINARY, "--listen", "127.0.0.1:%d" % taken.getsockname()[1]],
                                  capture_output=True, timeout=10)
            self.assertNotIn(done.returncode, (0, 101))
            self.assertNotIn(b"panicked", done.stderr)

    def test_a_thousand_mixed_clients(self):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        drain = 20
        hub = Hub("--keep-alive", "60", drain=drain)
        streams, sockets, raws, polls = [], [], [], []
        for n in range(MANY // 4):
            streams.append(Sse(hub, {"topic": f"t{n % 5}"}))
            sockets.append(Ws(hub, {"topic": f"t{n % 5}"}))
            raws.append(Ws(hub, {"topic": f"t{n % 5}"}, protocol=None))
            link = Link(hub.address)
            link.send(request_bytes(hub.address, "GET", query("/longpoll", {"topic": "quiet", "wait": 60})))
            polls.append(link)
        for ws in sockets:
            self.assertIn("heartbeat", ws.next())
        for stream in streams:
            stream.until(lambda it: it.last_id)
        self.eventually(lambda: b'transport="longpoll"} %d' % len(polls) in hub.get("/metrics").body, 20)
        at = {n: hub.publish(f"t{n}", n) for n in range(5)}
        last = max(at.values(), key=fixture.seq_of)
        for n in range(MANY // 4):
            self.assertEqual(sockets[n].event()["cursor"], at[n % 5])
            self.assertEqual(streams[n].event().id, at[n % 5])
            self.assertEqual(raws[n].message(), str(n % 5))
        began = time.monotonic()
        hub.terminate()
        for link in polls:
            got = read_response(link, timeout=drain)
            self.assertEqual((got.status, got.json()["events"], got.json()["cursor"]), (200, [], last))
            link.close()
        for n, ws in enumerate(sockets):
            away = ws.until("goaway", timeout=drain)["goaway"]
            self.assertGreaterEqual(fixture.seq_of(away["cursor"]), fixture.seq_of(at[n % 5]))
            closed = ws.closing(drain)
            self.assertEqual((closed.code, closed.option("cursor")), (1001, away["cursor"]))
            ws.send(CLOSE, b"\x03\xe9")
            ws.close()
        for n, stream in enumerate(streams):
            stream.parser.retry = None
            stream.until(lambda it: it.ended, drain)
            self.assertGreater(stream.retry, 0)
            self.assertGreaterEqual(fixture.seq_of(stream.last_id), fixture.seq_of(at[n % 5]))
            stream.close()
        for ws in raws:
            self.assertEqual(ws.closing(drain).code, 1001)
            ws.send(CLOSE, b"\x03\xe9")
            ws.close()
        hub.wait(drain - (time.monotonic() - began) + 1)


if __name__ == "__main__":
    unittest.main()
