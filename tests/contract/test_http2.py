"""HTTP/2 on the same port: a WebSocket by extended CONNECT (RFC 8441), by hand over cleartext."""

import struct
import time
import unittest

from hub import Contract
from sse import SseParser
from wire import CLOSE, TEXT, Close, frame

DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
ENABLE_CONNECT = 8
#: The indexed fields of the static table (RFC 7541, appendix A) that a status takes.
STATUSES = {0x88: 200, 0x89: 204, 0x8b: 304, 0x8c: 400, 0x8d: 404}


def literal(name, value):
    """A field never indexed, without Huffman coding (RFC 7541, 6.2.3)."""
    def text(it):
        data = it.encode()
        assert len(data) < 127
        return bytes([len(data)]) + data
    return b"\x10" + text(name) + text(value)


class Http2:
    def __init__(self, hub):
        self.hub = hub
        self.link = hub.link()
        self.link.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.write(SETTINGS, 0, 0)
        self.settings = None
        self.streams, self.statuses, self.ended = {}, {}, set()
        self.stream = -1
        while self.settings is None:
            self.read()

    def write(self, kind, flags, stream, payload=b""):
        self.link.send(struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload)

    def read(self, timeout=10):
        until = time.monotonic() + timeout
        head = self.link.take(9, until)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big") & 0x7fffffff
        payload = self.link.take(length, until)
        if kind == SETTINGS and not flags & ACK:
            self.settings = dict(struct.unpack("!HI", payload[at:at + 6]) for at in range(0, length, 6))
            self.write(SETTINGS, ACK, 0)
        elif kind == PING and not flags & ACK:
            self.write(PING, ACK, 0, payload)
        elif kind == HEADERS:
            self.statuses.setdefault(stream, STATUSES.get(payload[0], payload[:6]))
        elif kind == DATA:
            self.streams[stream] = self.streams.get(stream, b"") + payload
            if payload:
                for which in (0, stream):
                    self.write(WINDOW, 0, which, struct.pack("!I", length))
        elif kind in (RST, GOAWAY):
            self.ended.add(stream)
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.ended.add(stream)

    def request(self, fields, flags=END_HEADERS | END_STREAM):
        self.stream += 2
        self.write(HEADERS, flags, self.stream, b"".join(literal(*field) for field in fields))
        return self.stream

    def get(self, path):
        return self.request([(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", self.hub.authority)])

    def connect(self, path, *headers):
        return self.request([(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path),
                             (":authority", self.hub.authority), ("sec-websocket-version", "13"), *headers], END_HEADERS)

    def until(self, condition, timeout=10):
        until = time.monotonic() + timeout
        while not condition():
            self.read(until - time.monotonic())


class OverHttp2(Contract):
    FLAGS = ("--keep-alive", "0.5")

    def setUp(self):
        self.peer = Http2(self.hub)
        self.addCleanup(self.peer.link.close)

    def frames(self, stream):
        """The WebSocket frames that a stream has carried: (opcode, payload)."""
        data, found = self.peer.streams.get(stream, b""), []
        while len(data) >= 2:
            length, at = data[1] & 127, 2
            if length == 126:
                length, at = int.from_bytes(data[2:4], "big"), 4
            if len(data) < at + length:
                break
            found.append((data[0] & 15, data[at:at + length]))
            data = data[at + length:]
        return found

    def test_extended_connect_is_offered(self):
        self.assertEqual(self.peer.settings.get(ENABLE_CONNECT), 1)

    def test_a_websocket(self):
        topic = self.topic()
        stream = self.peer.connect(f"/ws?topic={topic}", ("sec-websocket-protocol", "pushpull.v1.json"))
        self.peer.until(lambda: stream in self.peer.statuses)
        self.assertEqual(self.peer.statuses[stream], 200)
        self.peer.until(lambda: b'"heartbeat"' in self.peer.streams.get(stream, b""))
        self.hub.publish(topic, "over http")
        self.peer.until(lambda: b'"over http"' in self.peer.streams[stream])
        asked = b'{"publish":{"id":1,"topic":"%s","data":2}}' % topic.encode()
        self.peer.write(DATA, 0, stream, frame(TEXT, asked))
        self.peer.until(lambda: b'"published"' in self.peer.streams[stream])
        self.peer.write(DATA, 0, stream, frame(CLOSE, b"\x03\xe8"))
        self.peer.until(lambda: stream in self.peer.ended)
        opcode, payload = self.frames(stream)[-1]
        self.assertEqual((opcode, Close(payload).code), (CLOSE, 1000))

    def test_a_raw_websocket_and_a_stream_on_one_connection(self):
        topic = self.topic()
        raw = self.peer.connect(f"/ws?topic={topic}")
        sse = self.peer.get(f"/sse?topic={topic}")
        self.peer.until(lambda: raw in self.peer.statuses and b"id: " in self.peer.streams.get(sse, b""))
        self.hub.publish(topic, b"both", "text/plain")
        self.peer.until(lambda: b"both" in self.peer.streams.get(raw, b"") and b"both" in self.peer.streams[sse])
        self.assertEqual(self.frames(raw), [(TEXT, b"both")])
        parser = SseParser()
        parser.feed(self.peer.streams[sse])
        self.assertIn("both", [it.data for it in parser.blocks])

    def test_a_bad_request_gets_its_status(self):
        stream = self.peer.connect("/ws?topic=a..b", ("sec-websocket-protocol", "pushpull.v1.json"))
        self.peer.until(lambda: stream in self.peer.statuses)
        self.assertEqual(self.peer.statuses[stream], 400)

    def test_a_bad_request_with_an_origin_is_accepted_and_closed(self):
        stream = self.peer.connect("/ws?topic=a..b", ("origin", f"http://{self.hub.authority}"))
        self.peer.until(lambda: self.frames(stream))
        self.assertEqual(self.peer.statuses[stream], 200)
        opcode, payload = self.frames(stream)[0]
        self.assertEqual((opcode, Close(payload).code), (CLOSE, 4400))

    def test_plain_requests(self):
        self.hub.publish("h2", b"body", "text/plain")
        for path, status, body in (("/topics/h2", 200, b"body"), ("/topics/none", 404, b"not-found"), ("/poll", 400, b'"topic"'),
                                   ("/metrics", 200, b"pushpull_topics"), ("/health", 200, b"status")):
            stream = self.peer.get(path)
            self.peer.until(lambda: stream in self.peer.ended)
            self.assertEqual(self.peer.statuses[stream], status)
            self.assertIn(body, self.peer.streams[stream])


if __name__ == "__main__":
    unittest.main()
