"""HTTP as such: methods, paths, limits, what must not be taken for a request (RFC 9110, 9112)."""

import unittest

from hub import Contract
from wire import Closed, chunked, read_response, request_bytes


class Hygiene(Contract):
    FLAGS = ("--max-payload", "65536")

    def raw(self, data, method="GET"):
        """All answers to what is sent as is, to the end of the connection or 1 s of silence."""
        found = []
        with self.hub.link() as link:
            try:
                link.send(data)
                while True:
                    found.append(read_response(link, method, 3 if not found else 0.5))
            except (Closed, TimeoutError, ConnectionError):
                return found

    def test_methods(self):
        for path, allowed in (("/topics/t", {"get", "head", "post"}), ("/poll", {"get"}), ("/longpoll", {"get"}),
                              ("/sse", {"get"}), ("/ws", {"get"}), ("/metrics", {"get"}), ("/health", {"get"}),
                              ("/health/live", {"get"})):
            for method in ("DELETE", "PUT", "PATCH", "TRACE", "POST"):
                if method.lower() in allowed:
                    continue
                got = self.hub.ask(method, path, body=b"")
                with self.subTest(path=path, method=method):
                    self.assertEqual(got.status, 405, got)
                    self.assertLessEqual(allowed, got.words("allow"))
                    self.assertNotIn(method.lower(), got.words("allow"))
                    self.assertProblem(got, 405)

    def test_unknown_paths(self):
        for path in ("/", "/nothing", "/topics", "/poll/", "/poll/x", "/POLL", "/sse/x", "/health/x", "//poll", "/webhooks",
                     "/topics/a/b", "/../metrics", "/%70oll/"):
            got = self.hub.get(path)
            self.assertIn(got.status, (404, 400), path)
            self.assertProblem(got, got.status)

    def test_heads_that_are_too_large_are_431(self):
        for lines in ([("X-Big", "x" * 200_000)], [(f"X-{n}", "y") for n in range(5000)]):
            found = self.raw(request_bytes(self.hub.address, "GET", "/health", lines))
            self.assertEqual([it.status for it in found], [431])

    def test_a_target_that_is_too_long(self):
        found = self.raw(request_bytes(self.hub.address, "GET", "/poll?topic=" + "x" * 100_000))
        self.assertEqual(len(found), 1)
        self.assertIn(found[0].status, (400, 414, 431))

    def test_a_large_payload_is_413_though_it_is_all_sent(self):
        for size in (65537, 300_000, 5_000_000):
            got = self.hub.ask("POST", "/topics/t", body=bytes(size))
            self.assertProblem(got, 413, outcome="not-applied")
            with self.hub.link() as link:
                link.send(request_bytes(self.hub.address, "POST", "/topics/t", [("Transfer-Encoding", "chunked")],
                                        chunked(bytes(size), 8192)))
                self.assertProblem(read_response(link), 413, outcome="not-applied")

    def test_only_announcing_a_large_payload_is_413(self):
        found = self.raw(request_bytes(self.hub.address, "POST", "/topics/t", [("Content-Length", "99999999999")]))
        self.assertEqual([it.status for it in found][:1], [413])

    def test_host(self):
        host = f"Host: {self.hub.authority}\r\n".encode()
        for lines in (b"", host + b"Host: evil.example\r\n", host + host, b"Host: a b\r\n", b"Host: evil/x\r\n"):
            found = self.raw(b"GET /health HTTP/1.1\r\n" + lines + b"\r\n")
            self.assertEqual([it.status for it in found], [400], lines)

    def test_length_and_transfer_encoding_at_once_smuggle_nothing(self):
        inner = b"POST /topics/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
        for lines, body in (
            (b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
            (b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n"),
            (b"Content-Length: 0\r\nContent-Length: 5\r\n", b"hello"),
            (b"Content-Length: 1, 2\r\n", b"ab"), (b"Content-Length: +1\r\n", b"a"), (b"Content-Length: -1\r\n", b""),
            (b"Content-Length: 0x1\r\n", b"a"), (b"Content-Length: \r\n", b""), (b"Transfer-Encoding: chunked, identity\r\n", b""),
            (b"Transfer-Encoding: xchunked\r\n", b""), (b"Transfer-Encoding: gzip\r\n", b""),
            (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), (b"Content-Length : 0\r\n", b""),
        ):
            head = b"POST /topics/smuggler HTTP/1.1\r\nHost: " + self.hub.authority.encode() + b"\r\n" + lines + b"\r\n"
            found = self.raw(head + body + inner)
            with self.subTest(lines):
                self.assertLessEqual(len(found), 1, found)
                self.assertEqual(self.hub.get("/topics/smuggled").status, 404)

    def test_bad_chunks(self):
        head = request_bytes(self.hub.address, "POST", "/topics/chunks", [("Transfer-Encoding", "chunked")])
        for body in (b"g\r\nx\r\n0\r\n\r\n", b"-1\r\nx\r\n0\r\n\r\n", b"1\r\nxx\r\n0\r\n\r\n", b"ffffffffffffffffff\r\nx",
                     b"1\nx\n0\n\n", b" 1\r\nx\r\n0\r\n\r\n", b"0x1\r\nx\r\n0\r\n\r\n"):
            found = self.raw(head + body)
            self.assertFalse([it for it in found if it.status == 201], body)
        self.assertEqual(self.hub.get("/topics/chunks").status, 404)

    def test_what_is_no_http(self):
        for data in (b"\r\n\r\n\r\nnonsense\r\n\r\n", b"GET\r\n\r\n", b"GET /health\r\n\r\n", b"GET /health HTTP/9.9\r\n\r\n",
                     b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0" * 100, b"GET /he alth HTTP/1.1\r\nHost: a\r\n\r\n",
                     b"GET /health HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", b"GET /health HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
                     b"GET /health HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"):
            found = self.raw(data)
            self.assertFalse([it for it in found if it.status < 400], (data, found))
        self.assertEqual(self.hub.get("/health").status, 200)

    def test_pipelined_requests_are_answered_in_order(self):
        for n in range(3):
            self.hub.publish(f"p{n}", str(n).encode(), "text/plain")
        data = b"".join(request_bytes(self.hub.address, "GET", f"/topics/p{n}") for n in range(3))
        self.assertEqual([it.body for it in self.raw(data)], [b"0", b"1", b"2"])

    def test_a_connection_is_kept_and_closed_as_asked(self):
        with self.hub.link() as link:
            for _ in range(3):
                link.send(request_bytes(self.hub.address, "GET", "/health"))
                self.assertEqual(read_response(link).status, 200)
            link.send(request_bytes(self.hub.address, "GET", "/health", [("Connection", "close")]))
            self.assertEqual(read_response(link).status, 200)
            self.assertTrue(link.ended())

    def test_http_1_0(self):
        with self.hub.link() as link:
            link.send(f"GET /health HTTP/1.0\r\nHost: {self.hub.authority}\r\n\r\n".encode())
            got = read_response(link)
            self.assertEqual(got.status, 200)
            self.assertIsNone(got.header("transfer-encoding"))
            self.assertTrue(link.ended())

    def test_the_absolute_form(self):
        target = f"http://{self.hub.authority}/health"
        self.assertEqual(self.raw(request_bytes(self.hub.address, "GET", target))[0].status, 200)

    def test_a_request_byte_by_byte(self):
        with self.hub.link() as link:
            for byte in request_bytes(self.hub.address, "POST", "/topics/bytewise", body=b"abc"):
                link.send(bytes([byte]))
            self.assertEqual(read_response(link).status, 201)

    def test_no_answer_can_be_sniffed_into_a_page(self):
        """A stored payload is another's words: a browser must not run it on this origin."""
        self.hub.publish("page", b"<script>1</script>", "text/html")
        self.assertEqual(self.hub.get("/topics/page").header("x-content-type-options"), "nosniff")

    def test_events_of_many_kinds_cannot_split_headers(self):
        got = self.hub.post("split", b"x", None, {"Content-Type": "text/plain"})
        self.assertEqual(got.status, 201)
        got = self.hub.post("split", b"x", None, {"Pushpull-Key": "a%0D%0ASet-Cookie:x"})
        self.assertProblem(got, 400)


if __name__ == "__main__":
    unittest.main()
