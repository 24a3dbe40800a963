"""GET /ws: the handshake, its refusals and browsers' (section 4; RFC 6455, sections 4 and 7.4)."""

import base64
import os
import unittest

from hub import Contract, Hub
from wire import CLOSE, TEXT, Close, Ws, frame, query, read_response, request_bytes, upgrade_headers


class Handshake(Contract):
    PATHS = ("/ws",)

    def ask(self, headers, parameters=(("topic", "t"),), method="GET"):
        return self.hub.ask(method, "/ws", parameters, headers)

    def changed(self, **changes):
        """The headers of a good handshake, with some changed or (by `None`) left out."""
        lines = dict(upgrade_headers("pushpull.v1.json"))
        for name, value in changes.items():
            name = {"key": "Sec-WebSocket-Key", "version": "Sec-WebSocket-Version", "upgrade": "Upgrade",
                    "connection": "Connection", "protocol": "Sec-WebSocket-Protocol"}[name]
            lines.pop(name)
            if value is not None:
                lines[name] = value
        return lines

    def test_the_subprotocol_is_echoed(self):
        for offered in ("pushpull.v1.json", "x.y, pushpull.v1.json", "pushpull.v1.json, x.y"):
            got = self.ask(self.changed(protocol=offered))
            self.assertEqual((got.status, got.header("sec-websocket-protocol")), (101, "pushpull.v1.json"), got)
        got = self.ask(self.changed(protocol=None))
        self.assertEqual((got.status, got.header("sec-websocket-protocol")), (101, None))

    def test_the_answer(self):
        got = self.ask(self.changed())
        self.assertEqual(got.header("upgrade").lower(), "websocket")
        self.assertIn("upgrade", got.words("connection"))
        self.assertIsNone(got.header("content-length"))

    def test_spellings_a_client_may_choose(self):
        for changes in ({"upgrade": "WebSocket"}, {"upgrade": "WEBSOCKET"}, {"connection": "keep-alive, Upgrade"},
                        {"connection": "upgrade"}):
            self.assertEqual(self.ask(self.changed(**changes)).status, 101, changes)
        several = [it for it in self.changed().items() if it[0] != "Sec-WebSocket-Protocol"]
        several += [("Sec-WebSocket-Protocol", "x"), ("Sec-WebSocket-Protocol", "pushpull.v1.json")]
        self.assertEqual(self.ask(several).header("sec-websocket-protocol"), "pushpull.v1.json")

    def test_only_unknown_subprotocols_are_400(self):
        for offered in ("chat", "pushpull.v2.json", "PUSHPULL.V1.JSON", "pushpull.v1"):
            self.assertProblem(self.ask(self.changed(protocol=offered)), 400)

    def test_what_is_no_handshake(self):
        for changes in ({"key": None}, {"key": "abc"}, {"key": base64.b64encode(os.urandom(15)).decode()},
                        {"key": "!" * 24}):
            self.assertProblem(self.ask(self.changed(**changes)), 400)
        for version in ("8", "12", "14", None):
            got = self.ask(self.changed(version=version))
            self.assertIn(got.status, (400, 426))
            self.assertProblem(got, got.status)
            if version:
                self.assertEqual((got.status, got.header("sec-websocket-version")), (426, "13"))
        for changes in ({"upgrade": None}, {"connection": "close"}, {"upgrade": "h2c"}):
            got = self.ask(self.changed(**changes))
            self.assertIn(got.status, (400, 426))
            self.assertProblem(got, got.status)

    def test_another_method_is_405(self):
        got = self.ask(self.changed(), method="POST")
        self.assertProblem(got, 405)
        self.assertIn("get", got.words("allow"))

    def test_a_bad_request_gets_its_status_before_the_upgrade(self):
        for parameters, name in (({"topic": "a..b"}, "topic"), ({"topic": "t", "x": 1}, "x"),
                                 ({"topic": "t", "after": "nonsense"}, "after"), ({"topic": "t", "format": "json"}, "format")):
            self.assertProblem(self.ask(self.changed(), parameters), 400, name)
        for parameters, name in (({}, "topic"), ({"topic": "a.*"}, "topic"), ({"topic": ["a", "b"]}, "topic"),
                                 ({"topic": "a", "overflow": "gap"}, "overflow"),
                                 ({"topic": "a", "overflow": "latest"}, "overflow"), ({"topic": "a", "window": 1}, "window")):
            self.assertProblem(self.ask(self.changed(protocol=None), parameters), 400, name)
        self.assertEqual(self.ask(self.changed(protocol=None), {"topic": "a", "overflow": "close"}).status, 101)

    def test_a_bad_request_with_an_origin_is_upgraded_and_closed(self):
        own = f"http://{self.hub.authority}"
        for protocol, parameters in (("pushpull.v1.json", {"topic": "a..b"}), ("pushpull.v1.json", {"topic": "t", "x": 1}),
                                     (None, {"topic": "a.*"}), ("x, pushpull.v1.json", {"topic": "t", "after": "?"})):
            with Ws(self.hub, parameters, protocol=protocol, headers={"Origin": own}) as ws:
                expected = "pushpull.v1.json" if protocol else None
                self.assertEqual(ws.response.header("sec-websocket-protocol"), expected)
                closed = ws.message()
                self.assertIsInstance(closed, Close)
                self.assertEqual(closed.code, 4400)
                self.assertEqual(closed.slug, "bad-request")
                ws.send(CLOSE, b"\x11\x30")
                self.assertTrue(ws.link.ended())

    def test_topics_may_come_later_with_a_subprotocol(self):
        with Ws(self.hub) as ws:
            ws.tell({"subscribe": {"id": 1, "topics": ["later"]}})
            self.assertEqual(ws.until("ok")["ok"]["id"], 1)

    def test_frames_sent_with_the_handshake_are_read(self):

        early = frame(TEXT, b'{"subscribe":{"id":1,"topics":["early"]}}')
        with Ws(self.hub, pipelined=early) as ws:
            self.assertEqual(ws.until("ok")["ok"]["id"], 1)

    def test_a_handshake_sent_byte_by_byte(self):
        with self.hub.link() as link:
            for byte in request_bytes(self.hub.address, "GET", query("/ws", {"topic": "t"}), upgrade_headers()):
                link.send(bytes([byte]))
            self.assertEqual(read_response(link).status, 101)

    def test_after_ordinary_requests_on_the_same_connection(self):
        with self.hub.link() as link:
            for target in ("/health", "/poll?topic=t"):
                link.send(request_bytes(self.hub.address, "GET", target))
                self.assertEqual(read_response(link).status, 200)
            link.send(request_bytes(self.hub.address, "GET", "/ws?topic=t", upgrade_headers()))
            self.assertEqual(read_response(link).status, 101)

    def test_the_type_slug_is_the_close_reason(self):
        slug = self.ask(self.changed(), {"topic": "a..b"}).json()["type"]
        with Ws(self.hub, {"topic": "a..b"}, headers={"Origin": f"http://{self.hub.authority}"}) as ws:
            self.assertTrue(slug.endswith(ws.message().slug))

    def test_deflate_is_offered_without_context_takeover(self):
        for asked in ("permessage-deflate", "permessage-deflate; client_max_window_bits", "x, permessage-deflate",
                      "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                      "permessage-deflate; server_max_window_bits=8, permessage-deflate"):
            with Ws(self.hub, {"topic": "t"}, extensions=asked) as ws:
                answer = ws.response.header("sec-websocket-extensions")
                self.assertIsNotNone(answer, asked)
                self.assertEqual(answer.split(";")[0].strip(), "permessage-deflate")
                options = {it.strip().split("=")[0] for it in answer.split(";")[1:]}
                self.assertIn("server_no_context_takeover", options)
                self.assertLessEqual(options, {"server_no_context_takeover", "client_no_context_takeover",
                                               "server_max_window_bits", "client_max_window_bits"})
        for asked in (None, "x-other", "permessage-deflate; nonsense", "permessage-deflate; server_max_window_bits=99"):
            with Ws(self.hub, {"topic": "t"}, extensions=asked) as ws:
                self.assertIsNone(ws.response.header("sec-websocket-extensions"), asked)


class Full(Contract):
    PATHS = ()

    def test_a_full_server_answers_503_before_the_upgrade(self):
        hub = Hub("--max-connections", "1")
        with Ws(hub, {"topic": "t"}):
            self.eventually(lambda: hub.get("/health").status == 503)
            got = hub.upgrade({"topic": "t"})
            self.assertProblem(got, 503)
            self.assertIsNotNone(got.header("retry-after"))
        self.eventually(lambda: hub.get("/health").status == 200)
        hub.stop()


if __name__ == "__main__":
    unittest.main()
