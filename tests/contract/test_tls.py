"""--tls-cert and --tls-key (section 8): the same on HTTPS."""

import os
import shutil
import ssl
import subprocess
import tempfile
import unittest

from hub import Contract, Hub
from sse import Sse
from wire import CLOSE, Closed, Link, Ws, read_response, request_bytes


@unittest.skipUnless(shutil.which("openssl"), "there is no openssl to make a certificate")
class Tls(Contract):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cert, key = (os.path.join(cls.folder.name, name) for name in ("cert.pem", "key.pem"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
            check=True, capture_output=True)
        cls.trust = cert
        cls.hub = Hub("--tls-cert", cert, "--tls-key", key, "--keep-alive", "0.5", tls=cls.context("http/1.1"))

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.folder.cleanup()

    @classmethod
    def context(cls, *protocols, newest=None):
        context = ssl.create_default_context(cafile=cls.trust)
        context.set_alpn_protocols(list(protocols))
        if newest:
            context.maximum_version = newest
        return context

    def test_publish_and_read(self):
        at = self.hub.publish("t", {"a": 1})
        self.assertEqual(self.hub.get("/topics/t").header("etag"), f'"{at}"')
        self.assertEqual(self.hub.get("/health").status, 200)

    def test_streams(self):
        topic = self.topic()
        with Sse(self.hub, {"topic": topic}) as stream, Ws(self.hub, {"topic": topic}) as ws, \
                Ws(self.hub, {"topic": topic}, protocol=None) as raw:
            stream.until(lambda it: it.last_id)
            ws.next()
            self.hub.publish(topic, {"a": "x" * 100_000})
            self.assertEqual(stream.event().json(), {"a": "x" * 100_000})
            self.assertEqual(ws.event()["data"], {"a": "x" * 100_000})
            self.assertEqual(len(raw.message()), 100_009)
            ws.tell({"publish": {"id": 1, "topic": topic, "data": 2}})
            self.assertEqual(ws.until("published", "error")["published"]["id"], 1)

    def test_an_origin_is_https(self):
        own = f"https://{self.hub.authority}"
        self.hub.publish("o", 1)
        self.assertEqual(self.hub.get("/topics/o", headers={"Origin": own}).status, 200)

    def test_alpn(self):
        for offered, chosen in ((["http/1.1"], "http/1.1"), (["h2"], "h2"), (["h2", "http/1.1"], "h2")):
            with Link(self.hub.address, self.context(*offered)) as link:
                self.assertEqual(link.sock.selected_alpn_protocol(), chosen)

    def test_versions(self):
        for newest, name in ((ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
            with Link(self.hub.address, self.context("http/1.1", newest=newest)) as link:
                self.assertEqual(link.sock.version(), name)
                link.send(request_bytes(self.hub.address, "GET", "/health"))
                self.assertEqual(read_response(link).status, 200)

    def test_plain_http_is_not_served(self):
        with Link(self.hub.address) as link:
            link.send(request_bytes(self.hub.address, "GET", "/health"))
            try:
                self.assertGreaterEqual(read_response(link).status, 400)
            except (Closed, AssertionError):
                pass
        self.assertEqual(self.hub.get("/health").status, 200)

    def test_drain(self):
        hub, type(self).hub = self.hub, Hub(
            "--tls-cert", self.trust, "--tls-key", os.path.join(self.folder.name, "key.pem"), tls=self.hub.tls)
        try:
            with Sse(self.hub, {"topic": "t"}) as stream, Ws(self.hub, {"topic": "t"}) as ws:
                stream.until(lambda it: it.last_id)
                self.hub.terminate()
                stream.until(lambda it: it.ended)
                self.assertEqual(ws.closing().code, 1001)
                ws.send(CLOSE, b"\x03\xe9")
            self.hub.wait(6)
        finally:
            type(self).hub = hub


if __name__ == "__main__":
    unittest.main()
