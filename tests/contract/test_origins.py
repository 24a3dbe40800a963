"""Browser origins and CORS (section 7), on every path."""

import time
import unittest

from hub import Contract
from wire import Ws, read_head, request_bytes

ALLOWED = "https://app.example"
EXPOSED = {"etag", "retry-after", "preference-applied", "pushpull-cursor", "pushpull-event", "pushpull-key"}
HEADERS = {"authorization", "content-type", "if-none-match", "last-event-id", "prefer", "idempotency-key",
           "pushpull-event", "pushpull-key"}
PATHS = (("POST", "/topics/t"), ("GET", "/topics/t"), ("GET", "/poll?topic=t"), ("GET", "/longpoll?topic=t&wait=0"),
         ("GET", "/sse?topic=t"))


class Origins(Contract):
    FLAGS = ("--allow-origin", ALLOWED, "--allow-origin", "http://other.example:8000", "--keep-alive", "0.5")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.hub.publish("t", 1)

    def head(self, method, target, headers):
        """The head of an answer, streaming or not."""
        with self.hub.link() as link:
            body = b"x" if method == "POST" else None
            link.send(request_bytes(self.hub.address, method, target, list(headers.items()), body))
            return read_head(link, time.monotonic() + 5)

    def served(self):
        return [it for it in PATHS if self.hub.serves(it[1].split("?")[0]) or it[0] == "POST"]

    def own(self):
        return f"http://{self.hub.authority}"

    def test_same_host_and_port_and_the_list_may_come(self):
        for origin in (self.own(), ALLOWED, "http://other.example:8000"):
            for method, target in PATHS:
                got = self.head(method, target, {"Origin": origin})
                self.assertIn(got.status, (200, 201), (origin, target))
                if origin != self.own():
                    self.assertEqual(got.header("access-control-allow-origin"), origin, target)
                    self.assertEqual(got.words("access-control-expose-headers"), EXPOSED, target)
                self.assertIn("origin", got.words("vary"))
            with Ws(self.hub, {"topic": "t"}, headers={"Origin": origin}) as ws:
                self.assertIn("heartbeat", ws.next())

    def strangers(self):
        port = self.hub.address[1]
        return ("null", "https://evil.example", "http://app.example", "https://app.example:444", "https://app.example.evil",
                "https://evil.app.example", "https://app.example@evil", "HTTPS://evil.example", "", "http://127.0.0.1",
                f"http://localhost:{port}", f"http://127.0.0.1:{port + 1}", "http://other.example", "app.example",
                "http://127.0.0.1:99999", f"http://127.0.0.1:{port}.evil", f"{ALLOWED} https://evil.example")

    def test_strangers_are_refused_on_every_path(self):
        for origin in self.strangers():
            for method, target in PATHS:
                with self.subTest(origin=origin, target=target):
                    with self.hub.link() as link:
                        body = b"x" if method == "POST" else None
                        link.send(request_bytes(self.hub.address, method, target, [("Origin", origin)], body))
                        got = read_head(link, time.monotonic() + 5)
                    self.assertEqual(got.status, 403)
                    self.assertIsNone(got.header("access-control-allow-origin"))
            with self.subTest(origin=origin, target="/ws"):
                with Ws(self.hub, {"topic": "t"}, headers={"Origin": origin}) as ws:
                    self.assertEqual(ws.message().code, 4403)

    def test_a_strangers_post_publishes_nothing(self):
        topic = self.topic()
        got = self.hub.post(topic, 1, headers={"Origin": "https://evil.example"})
        self.assertProblem(got, 403, outcome="not-applied")
        self.assertEqual(self.hub.get(f"/topics/{topic}").status, 404)

    def test_two_origins_are_no_origin(self):
        for pair in ((ALLOWED, "https://evil.example"), ("https://evil.example", ALLOWED)):
            got = self.hub.get("/topics/t", headers=[("Origin", it) for it in pair])
            self.assertIn(got.status, (400, 403))

    def test_errors_bear_cors_too(self):
        for method, path, parameters, headers in (
            ("GET", "/poll", {"topic": "a..b"}, {}), ("GET", "/topics/none", {}, {}), ("GET", "/sse", {}, {}),
            ("POST", "/topics/a..b", {}, {}), ("GET", "/topics/t", {"x": 1}, {}),
        ):
            got = self.hub.ask(method, path, parameters, {"Origin": ALLOWED, **headers}, b"x" if method == "POST" else None)
            self.assertIn(got.status, (400, 404))
            self.assertEqual(got.header("access-control-allow-origin"), ALLOWED, path)

    def test_304_bears_cors_too(self):
        etag = self.hub.get("/topics/t").header("etag")
        for path, parameters in (("/topics/t", {}), ("/poll", {"topic": "t"})):
            got = self.hub.get(path, parameters, {"Origin": ALLOWED, "If-None-Match": etag})
            if got.status == 304:
                self.assertEqual(got.header("access-control-allow-origin"), ALLOWED)
                self.assertEqual(got.words("access-control-expose-headers"), EXPOSED)

    def test_preflight(self):
        asked = ", ".join(sorted(HEADERS))
        for method, target in PATHS:
            got = self.hub.ask("OPTIONS", target.split("?")[0], headers={
                "Origin": ALLOWED, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": asked})
            self.assertIn(got.status, (200, 204), target)
            self.assertEqual(got.header("access-control-allow-origin"), ALLOWED)
            self.assertEqual(got.words("access-control-allow-headers"), HEADERS)
            self.assertIn(method.lower(), got.words("access-control-allow-methods"))
            self.assertNotEqual(got.header("access-control-allow-origin"), "*")
            for origin in ("null", "https://evil.example"):
                got = self.hub.ask("OPTIONS", target.split("?")[0], headers={
                    "Origin": origin, "Access-Control-Request-Method": method})
                self.assertIsNone(got.header("access-control-allow-origin"))

    def test_without_an_origin_there_is_no_cors_answer(self):
        self.assertIsNone(self.hub.get("/topics/t").header("access-control-allow-origin"))

    def test_refusals_are_counted(self):
        self.hub.get("/topics/t", headers={"Origin": "null"})
        self.assertRegex(self.hub.get("/metrics").body.decode(), r'pushpull_rejected_total\{reason="[a-z_]+"\} [1-9]')


if __name__ == "__main__":
    unittest.main()
