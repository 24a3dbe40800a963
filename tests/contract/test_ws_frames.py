"""GET /ws: framing, control frames, errors and compression (RFC 6455, RFC 7692)."""

import json
import os
import struct
import unittest
import zlib

from hub import Contract
from wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Ws, frame


class Frames(Contract):
    PATHS = ("/ws",)
    FLAGS = ("--max-payload", "65536", "--keep-alive", "0.5")

    def open(self, **options):
        ws = Ws(self.hub, options.pop("parameters", ()), **options)
        self.addCleanup(ws.close)
        return ws

    def ask(self, number, topic="t"):
        return json.dumps({"subscribe": {"id": number, "topics": [topic]}}).encode()

    def closes(self, code, *frames, **options):
        ws = self.open(**options)
        for data in frames:
            ws.link.send(data)
        closed = ws.closing()
        self.assertEqual(closed.code, code, closed)
        self.assertTrue(ws.link.ended())
        return closed

    def test_protocol_errors_close_with_1002(self):
        for name, frames in {
            "unmasked": [frame(TEXT, b"{}", mask=False)],
            "reserved opcode 3": [frame(3, b"")],
            "reserved opcode 11": [frame(11, b"")],
            "RSV1 without deflate": [frame(TEXT, b"{}", rsv=4)],
            "RSV2": [frame(TEXT, b"{}", rsv=2)],
            "RSV3": [frame(TEXT, b"{}", rsv=1)],
            "a fragmented ping": [frame(PING, b"", fin=False)],
            "a long ping": [frame(PING, bytes(126))],
            "continuation of nothing": [frame(CONTINUATION, b"x")],
            "a message inside a message": [frame(TEXT, b"{", fin=False), frame(TEXT, b"}")],
            "a close of one byte": [frame(CLOSE, b"\x03")],
            "close code 999": [frame(CLOSE, struct.pack("!H", 999))],
            "close code 1005": [frame(CLOSE, struct.pack("!H", 1005))],
            "close code 1006": [frame(CLOSE, struct.pack("!H", 1006))],
            "close code 1015": [frame(CLOSE, struct.pack("!H", 1015))],
            "close code 2999": [frame(CLOSE, struct.pack("!H", 2999))],
            "close code 65535": [frame(CLOSE, struct.pack("!H", 65535))],
        }.items():
            with self.subTest(name):
                self.closes(1002, *frames)

    def test_text_that_is_not_utf8_closes_with_1007(self):
        for body in (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xe2\x82"):
            self.closes(1007, frame(TEXT, body))
            self.closes(1007, frame(TEXT, body), parameters={"topic": "t"}, protocol=None)
        self.closes(1007, frame(TEXT, b'"\xe2', fin=False), frame(CONTINUATION, b'"'))
        self.closes(1007, frame(CLOSE, struct.pack("!H", 1000) + b"\xff"))

    def test_binary_where_text_is_due_closes_with_1003(self):
        self.closes(1003, frame(BINARY, b"{}"))

    def test_an_oversize_message_closes_with_1009(self):
        self.closes(1009, frame(TEXT, bytes(4 * 1024 * 1024))[:200_000])
        self.closes(1009, *[frame(TEXT, b" " * 60_000, fin=False)], *[frame(CONTINUATION, b" " * 60_000, fin=False)] * 12)
        self.closes(1009, frame(BINARY, bytes(65537)), parameters={"topic": "t"}, protocol=None)
        huge = b"\x81" + bytes([0x80 | 127]) + struct.pack("!Q", 2**62) + b"abcd"
        self.closes(1009, huge)

    def test_a_length_with_its_top_bit_set_closes(self):
        ws = self.open()
        ws.link.send(b"\x81" + bytes([0x80 | 127]) + struct.pack("!Q", 2**63 + 5) + b"abcd")
        self.assertIn(ws.closing().code, (1002, 1009))

    def test_the_closing_handshake(self):
        for sent, code in ((b"", (None, 1000)), (struct.pack("!H", 1000), (1000,)), (struct.pack("!H", 1001) + b"bye", (1000, 1001)),
                           (struct.pack("!H", 4999), (1000, 4999)), (struct.pack("!H", 3000), (1000, 3000))):
            ws = self.open(parameters={"topic": "t"})
            ws.send(CLOSE, sent)
            self.assertIn(ws.closing().code, code)
            self.assertTrue(ws.link.ended())

    def test_pings_are_answered_with_their_payload(self):
        for payload in (b"", b"x", os.urandom(125)):
            ws = self.open()
            ws.send(PING, payload)
            while (got := ws.frame())[2] != PONG:
                pass
            self.assertEqual(got[3], payload)

    def test_unasked_pongs_are_ignored(self):
        ws = self.open()
        ws.send(PONG, b"unasked")
        ws.link.send(frame(TEXT, self.ask(1)))
        self.assertEqual(ws.until("ok")["ok"]["id"], 1)

    def test_fragments_with_control_frames_between(self):
        ws = self.open()
        body = self.ask("\u00e9\u20ac")
        text = json.dumps({"subscribe": {"id": "\u00e9\u20ac", "topics": ["t"]}}, ensure_ascii=False).encode()
        for body in (body, text):
            ws.send(TEXT, b"", fin=False)
            for at in range(len(body)):
                ws.send(CONTINUATION, body[at:at + 1], fin=False)
                if at % 10 == 0:
                    ws.send(PING, b"between")
            ws.send(CONTINUATION, b"")
            self.assertEqual(ws.until("ok")["ok"]["id"], "\u00e9\u20ac")
        self.assertGreater(ws.pongs, 0)

    def test_lengths_at_every_edge(self):
        ws = self.open()
        for length in (125, 126, 127, 65535, 65536):
            body = self.ask(length)
            ws.link.send(frame(TEXT, body + b" " * (length - len(body))))
            self.assertEqual(ws.until("ok")["ok"]["id"], length)

    def test_a_frame_byte_by_byte_and_many_at_once(self):
        ws = self.open()
        for byte in frame(TEXT, self.ask(1)):
            ws.link.send(bytes([byte]))
        self.assertEqual(ws.until("ok")["ok"]["id"], 1)
        ws.link.send(b"".join(frame(TEXT, self.ask(n)) for n in range(2, 100)))
        self.assertEqual([ws.until("ok")["ok"]["id"] for _ in range(98)], list(range(2, 100)))

    def test_a_connection_cut_anywhere_leaves_the_hub_well(self):
        whole = frame(TEXT, self.ask(1))
        for at in range(0, len(whole), 5):
            ws = self.open(parameters={"topic": "t"})
            ws.link.send(whole[:at])
            ws.close()
        self.assertEqual(self.hub.get("/health").status, 200)
        line = b'pushpull_connections{transport="ws"} 0'
        self.eventually(lambda: line in self.hub.get("/metrics").body)


class Deflate(Contract):
    PATHS = ("/ws",)
    FLAGS = ("--max-payload", "65536", "--keep-alive", "0.5")

    def open(self, asked="permessage-deflate", **options):
        ws = Ws(self.hub, options.pop("parameters", ()), extensions=asked, **options)
        self.addCleanup(ws.close)
        self.assertTrue(ws.deflate)
        return ws

    def test_both_ways(self):
        topic = self.topic()
        ws = self.open(parameters={"topic": topic})
        values = ["x" * 50_000, os.urandom(5_000).hex(), "small", "y" * 50_000]
        for n, value in enumerate(values):
            ws.deflated(json.dumps({"publish": {"id": n, "topic": topic, "data": value}}).encode())
        self.assertEqual([ws.event()["data"] for _ in values], values)
        self.assertGreater(ws.compressed, 0)

    def test_a_compressed_message_in_fragments(self):
        ws = self.open()
        body = json.dumps({"subscribe": {"id": 1, "topics": ["t"]}}).encode() + b" " * 1000
        maker = zlib.compressobj(wbits=-15)
        data = (maker.compress(body) + maker.flush(zlib.Z_SYNC_FLUSH))[:-4]
        ws.send(TEXT, data[:3], rsv=4, fin=False)
        ws.send(PING, b"")
        ws.send(CONTINUATION, data[3:], fin=False)
        ws.send(CONTINUATION, b"")
        self.assertEqual(ws.until("ok")["ok"]["id"], 1)

    def test_plain_messages_are_as_good(self):
        ws = self.open()
        ws.tell({"subscribe": {"id": 1, "topics": ["t"]}})
        self.assertEqual(ws.until("ok")["ok"]["id"], 1)

    def test_a_final_block_and_an_empty_message(self):
        ws = self.open(parameters={"topic": self.topic()}, protocol=None)
        maker = zlib.compressobj(wbits=-15)
        body = maker.compress(b"whole") + maker.flush(zlib.Z_FINISH)
        ws.send(TEXT, body + b"\0", rsv=4)
        self.assertEqual(ws.message(), "whole")
        ws.send(TEXT, b"\0", rsv=4)
        self.assertEqual(ws.message(), "")

    def test_errors(self):
        bomb = json.dumps("x" * 8_000_000).encode()
        for name, codes, send in (
            ("a bomb", (1009,), lambda ws: ws.deflated(bomb)),
            ("not deflate", (1002, 1007), lambda ws: ws.send(TEXT, b"\xff\xff\xff", rsv=4)),
            ("not UTF-8 inside", (1007,), lambda ws: ws.deflated(b'"\xff"')),
            ("a compressed ping", (1002,), lambda ws: ws.send(PING, b"x", rsv=4)),
            ("RSV1 on a continuation", (1002,), lambda ws: (ws.send(TEXT, b"x", fin=False), ws.send(CONTINUATION, b"", rsv=4))),
        ):
            with self.subTest(name):
                ws = self.open()
                send(ws)
                self.assertIn(ws.closing().code, codes)

    def test_a_smaller_window_is_kept_to_where_agreed(self):
        topic = self.topic()
        ws = Ws(self.hub, {"topic": topic}, extensions="permessage-deflate; server_max_window_bits=9")
        self.addCleanup(ws.close)
        if ws.deflate:
            self.assertIn("server_max_window_bits=9", ws.response.header("sec-websocket-extensions"))
        self.hub.publish(topic, {"n": "z" * 30_000})
        self.assertEqual(ws.event()["data"], {"n": "z" * 30_000})


if __name__ == "__main__":
    unittest.main()
