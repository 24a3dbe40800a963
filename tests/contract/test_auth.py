"""Tokens (section 7): HS256 made by hmac, on every path."""

import base64
import hashlib
import hmac
import json
import tempfile
import time
import unittest

from hub import Contract, Hub
from sse import Sse
from wire import Ws, query, read_head, request_bytes, upgrade_headers

SECRET = b"a secret of at least thirty-two bytes"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(subscribe=(), publish=(), *, header=None, secret=SECRET, digest=hashlib.sha256, **claims):
    claims = {"sub": "someone", "exp": int(time.time()) + 600, "subscribe": list(subscribe), "publish": list(publish), **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    text = b64(json.dumps(header or {"alg": "HS256", "typ": "JWT"}).encode()) + "." + b64(json.dumps(claims).encode())
    return text + "." + b64(hmac.new(secret, text.encode(), digest).digest())


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


class Auth(Contract):
    @classmethod
    def setUpClass(cls):
        with tempfile.NamedTemporaryFile() as file:
            file.write(SECRET + b"\n")
            file.flush()
            cls.hub = Hub("--jwt-hs256-file", file.name, "--keep-alive", "0.5")
        cls.master = token([">"], [">"])
        cls.hub.ask("POST", "/topics/known", headers=bearer(cls.master), body=b"x")

    def statuses(self, topic, text=None, by="header"):
        """The status of each path that delivers, for a token."""
        headers = bearer(text) if text and by == "header" else {}
        more = {"access_token": text} if text and by == "query" else {}
        found = {}
        for path in ("poll", "longpoll", "sse", "ws"):
            asked = list(headers.items()) + (upgrade_headers("pushpull.v1.json") if path == "ws" else [])
            wait = {"wait": 0} if path == "longpoll" else {}
            with self.hub.link() as link:
                target = query("/" + path, {"topic": topic, **more, **wait})
                link.send(request_bytes(self.hub.address, "GET", target, asked))
                found[path] = read_head(link, time.monotonic() + 5).status
        return found

    def each(self, topic, text, status, by="header"):
        for path, got in self.statuses(topic, text, by).items():
            expected = 101 if path == "ws" and status == 200 else status
            self.assertEqual(got, expected, (path, topic))

    def test_without_a_token_401_with_a_challenge(self):
        self.each("known", None, 401)
        for got in (self.hub.get("/topics/known"), self.hub.get("/poll", {"topic": "known"}),
                    self.hub.ask("POST", "/topics/known", body=b"x")):
            self.assertProblem(got, 401)
            self.assertIn("bearer", (got.header("www-authenticate") or "").lower())
        self.assertProblem(self.hub.ask("POST", "/topics/known", body=b"x"), 401, outcome="not-applied")

    def test_tokens_that_do_not_hold(self):
        now = int(time.time())
        for name, text in {
            "another secret": token([">"], secret=b"another secret, just as long as that"),
            "expired": token([">"], exp=now - 60), "no exp": token([">"], exp=None), "exp is text": token([">"], exp="never"),
            "alg none": token([">"], header={"alg": "none"}).rsplit(".", 1)[0] + ".",
            "alg HS512": token([">"], header={"alg": "HS512"}, digest=hashlib.sha512),
            "alg HS384": token([">"], header={"alg": "HS384"}, digest=hashlib.sha384),
            "alg RS256": token([">"], header={"alg": "RS256"}),
            "cut": token([">"])[:-3], "no token": "nonsense", "three dots": "a.b.c",
        }.items():
            with self.subTest(name):
                self.each("known", text, 401)
                got = self.hub.ask("POST", "/topics/known", headers=bearer(text), body=b"x")
                self.assertProblem(got, 401, outcome="not-applied")
        self.assertProblem(self.hub.get("/topics/known", headers={"Authorization": "Basic YTpi"}), 401)

    def test_five_seconds_of_leeway(self):
        self.each("known", token([">"], exp=int(time.time()) - 2), 200)
        self.each("known", token([">"], exp=int(time.time()) - 7), 401)

    def test_by_header_and_by_parameter(self):
        self.each("known", self.master, 200)
        self.each("known", self.master, 200, by="query")
        self.assertEqual(self.hub.get("/topics/known", headers={"Authorization": f"bearer {self.master}"}).status, 200)
        self.assertEqual(self.hub.get("/topics/known", {"access_token": self.master}).status, 200)
        got = self.hub.ask("POST", "/topics/known", {"access_token": self.master}, body=b"x")
        self.assertEqual(got.status, 201)

    def test_one_granted_pattern_must_cover_all_of_it(self):
        for granted, asked, status in (
            (["a.>"], "a.b", 200), (["a.>"], "a.b.c", 200), (["a.>"], "a.*", 200), (["a.>"], "a.>", 200), (["a.>"], "a.*.c", 200),
            (["a.>"], "a.b.>", 200), (["a.>"], "a", 403), (["a.>"], ">", 403), (["a.>"], "*", 403), (["a.>"], "*.b", 403),
            (["a.*"], "a.b", 200), (["a.*"], "a.*", 200), (["a.*"], "a.>", 403), (["a.*"], "a.b.c", 403), (["a.*"], "*.*", 403),
            (["a.b"], "a.b", 200), (["a.b"], "a.*", 403), (["a.b"], "a.bc", 403), ([">"], ">", 200), ([">"], "*.>", 200),
            (["*"], "a", 200), (["*"], ">", 403), (["*.>"], ">", 403), (["*", "*.>"], ">", 403), (["a.b", "a.c"], "a.*", 403),
            (["*.>"], "a.b", 200), (["a.*.c"], "a.b.c", 200), (["a.*.c"], "a.*.*", 403), ([], "a", 403), (["a.b", "c"], "c", 200),
        ):
            with self.subTest(granted=granted, asked=asked):
                self.each(asked, token(granted), status)

    def test_every_topic_asked_for_must_be_granted_never_filtered(self):
        text = token(["a"])
        got = self.hub.get("/poll", {"topic": ["a", "b"]}, bearer(text))
        self.assertProblem(got, 403)

    def test_subscribe_and_publish_are_apart(self):
        reader, writer = token(["known"]), token(publish=["known"])
        self.assertEqual(self.hub.get("/topics/known", headers=bearer(reader)).status, 200)
        got = self.hub.ask("POST", "/topics/known", headers=bearer(reader), body=b"x")
        self.assertProblem(got, 403, outcome="not-applied")
        self.assertEqual(self.hub.ask("POST", "/topics/known", headers=bearer(writer), body=b"x").status, 201)
        self.assertProblem(self.hub.get("/topics/known", headers=bearer(writer)), 403)
        self.each("known", writer, 403)
        self.assertProblem(self.hub.ask("POST", "/topics/other", headers=bearer(writer), body=b"x"), 403)

    def test_service_paths_are_open(self):
        for path in ("/metrics", "/health", "/health/live"):
            self.assertEqual(self.hub.get(path).status, 200)

    def test_frames_of_a_websocket(self):
        text = token(["a.*"], ["a.b"])
        with Ws(self.hub, headers=bearer(text)) as ws:
            for n, (frame, status) in enumerate((
                ({"subscribe": {"topics": ["b"]}}, 403), ({"subscribe": {"topics": ["a.>"]}}, 403),
                ({"subscribe": {"topics": ["a.*"]}}, None), ({"subscribe": {"topics": ["a.x", "c"]}}, 403),
                ({"publish": {"topic": "a.c", "data": 1}}, 403), ({"publish": {"topic": "a.b", "data": 1}}, None),
            )):
                name = next(iter(frame))
                frame[name]["id"] = n
                ws.tell(frame)
                item = ws.until("ok", "published", "error")
                self.assertIsInstance(item, dict, (frame, item))
                if status:
                    self.assertEqual(item["error"]["id"], n)
                    self.assertProblemBody(item["error"], status)
                else:
                    self.assertNotIn("error", item)

    def test_a_raw_websocket_publishes_if_it_may(self):
        with Ws(self.hub, {"topic": "raw"}, protocol=None, headers=bearer(token(["raw"]))) as ws:
            ws.text("x")
            self.assertEqual(ws.closing().code, 4403)
        self.assertEqual(self.hub.get("/topics/raw", headers=bearer(self.master)).status, 404)
        with Ws(self.hub, {"topic": "raw"}, protocol=None, headers=bearer(token(["raw"], ["raw"]))) as ws:
            ws.text("x")
            self.assertEqual(ws.message(), "x")

    def test_a_websocket_with_an_origin_is_upgraded_and_closed(self):
        origin = {"Origin": f"http://{self.hub.authority}"}
        for text, code, slug in ((None, 4401, "unauthenticated"), ("bad", 4401, "unauthenticated"), (token(["x"]), 4403, "forbidden")):
            parameters = {"topic": "known", **({"access_token": text} if text else {})}
            for protocol in ("pushpull.v1.json", None):
                with Ws(self.hub, parameters, protocol=protocol, headers=origin) as ws:
                    closed = ws.message()
                    self.assertEqual((closed.code, closed.slug), (code, slug))
                    self.assertEqual(ws.response.header("sec-websocket-protocol"), protocol)

    def test_expiry_ends_live_connections(self):
        text = token([">"], [">"], exp=int(time.time()) - 3)
        headers = bearer(text)
        stream = Sse(self.hub, {"topic": "live"}, headers)
        ws = Ws(self.hub, {"topic": "live"}, headers=headers)
        raw = Ws(self.hub, {"topic": "live"}, protocol=None, headers=headers)
        stream.until(lambda it: it.last_id)
        stream.until(lambda it: it.ended, 6)
        self.assertEqual(raw.closing(6).code, 4401)
        closed = ws.closing(6)
        self.assertEqual((closed.code, closed.slug), (4401, "unauthenticated"))
        self.assertEqual(self.hub.get("/sse", {"topic": "live"}, {**headers, "Accept": "text/event-stream"}).status, 401)
        for it in (stream, ws, raw):
            it.close()

    def test_resume_is_checked_anew(self):
        got = self.hub.get("/sse", {"topic": "known"}, {"Last-Event-ID": "zzz-1", **bearer(token(["x"]))})
        self.assertProblem(got, 403)

    def test_a_token_never_comes_back(self):
        got = self.hub.get("/poll", {"topic": "a..b", "access_token": self.master})
        self.assertNotIn(self.master.encode(), got.body)

    def test_refusals_are_counted(self):
        self.hub.get("/topics/known")
        text = self.hub.get("/metrics").body.decode()
        self.assertRegex(text, r'pushpull_rejected_total\{reason="unauthenticated"\} [1-9]')
        self.assertNotIn("someone", text)


if __name__ == "__main__":
    unittest.main()
