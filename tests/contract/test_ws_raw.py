"""GET /ws without a subprotocol: raw messages (section 4)."""

import os
import unittest

from hub import Contract
from wire import BINARY, TEXT, Ws, frame


class Raw(Contract):
    PATHS = ("/ws", "/poll")
    FLAGS = ("--max-payload", "65536", "--keep-alive", "0.4")

    def open(self, topic, **parameters):
        ws = Ws(self.hub, {"topic": topic, **parameters}, protocol=None)
        self.addCleanup(ws.close)
        return ws

    def events(self, topic):
        return self.hub.poll({"topic": topic, "start": "earliest"})["events"]

    def test_each_event_is_one_message(self):
        topic = self.topic()
        ws = self.open(topic)
        for body, kind, expected in ((b'{"a" :1}', "application/json", '{"a" :1}'), ("\u00e9\r\n".encode(), "text/plain", "\u00e9\r\n"),
                                     (b"[1]", "application/x+json", "[1]"), (b"text", "application/octet-stream", b"text"),
                                     (b"\0\xff", "image/png", b"\0\xff"), (b"", "application/octet-stream", b""),
                                     (b"", "text/plain", ""), (b"<a/>", "application/xml", b"<a/>")):
            self.hub.publish(topic, body, kind, key="k", event="e")
            self.assertEqual(ws.message(), expected)

    def test_nothing_else_is_sent(self):
        """No heartbeat, no first word: the next message is the next event."""
        topic = self.topic()
        ws = self.open(topic)
        other = self.open(topic)
        for n in range(3):
            self.hub.publish(topic, n)
            self.assertEqual((ws.message(), other.message()), (str(n), str(n)))
            with self.assertRaises(TimeoutError):
                ws.message(0.5)

    def test_a_message_from_the_client_is_published(self):
        topic = self.topic()
        ws, other = self.open(topic), self.open(topic)
        binary = os.urandom(1000)
        ws.text("h\u00e9")
        ws.send(BINARY, binary)
        for it in (ws, other):
            self.assertEqual([it.message(), it.message()], ["h\u00e9", binary])
        events = self.events(topic)
        self.assertEqual([it["type"] for it in events], ["text/plain; charset=utf-8", "application/octet-stream"])
        self.assertEqual(self.hub.get(f"/topics/{topic}").body, binary)

    def test_fragments_are_published_whole(self):
        topic = self.topic()
        ws = self.open(topic)
        ws.send(TEXT, b"ab", fin=False)
        ws.send(0, b"cd")
        self.assertEqual(ws.message(), "abcd")
        self.assertEqual(len(self.events(topic)), 1)

    def test_the_limit_is_the_payloads(self):
        topic = self.topic()
        ws = self.open(topic)
        ws.send(BINARY, bytes(65536))
        self.assertEqual(ws.message(), bytes(65536))
        ws.send(BINARY, bytes(65537))
        self.assertEqual(ws.closing().code, 1009)
        self.assertEqual(len(self.events(topic)), 1)

    def test_resume_points(self):
        topic = self.topic()
        at = [self.hub.publish(topic, n) for n in range(4)]
        for more, expected in (({"after": at[1]}, ["2", "3"]), ({"start": "earliest"}, ["0", "1", "2", "3"])):
            ws = self.open(topic, **more)
            self.assertEqual([ws.message() for _ in expected], expected)

    def test_any_gap_closes_with_4409(self):
        for place in ("zzz-1",):
            ws = self.open(self.topic(), after=place)
            closed = ws.closing()
            self.assertEqual(closed.code, 4409)

    def test_many_messages_in_order(self):
        topic = self.topic()
        ws = self.open(topic)
        ws.link.send(b"".join(frame(TEXT, str(n).encode()) for n in range(500)))
        self.assertEqual([ws.message() for _ in range(500)], [str(n) for n in range(500)])


if __name__ == "__main__":
    unittest.main()
