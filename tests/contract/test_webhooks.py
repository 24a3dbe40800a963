"""Webhooks (section 6): registration over HTTP, signatures, order, retries, targets that are refused."""

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from hub import Contract, Hub


class Target:
    """Answers each POST by the next of `answers`, then by 204, and keeps what came."""

    def __init__(self, answers=()):
        self.answers, self.got = list(answers), []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status, headers = outer.answers.pop(0) if outer.answers else (204, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Webhooks(Contract):
    FLAGS = ("--webhooks", "--webhook-allow", "127.0.0.0/8", "--webhook-first-retry", "0.05")

    def target(self, answers=()):
        target = Target(answers)
        self.addCleanup(target.close)
        return target

    def register(self, **members):
        return self.hub.ask("POST", "/webhooks", headers={"Content-Type": "application/json"},
                            body=json.dumps(members).encode())

    def test_an_event_comes_signed_and_moves_the_place(self):
        topic, target = self.topic(), self.target()
        registered = self.register(url=target.url, topics=[topic])
        self.assertEqual(registered.status, 201)
        endpoint = registered.json()
        self.assertCursor(endpoint["cursor"])
        cursor = self.hub.publish(topic, {"n": 1})
        self.eventually(lambda: target.got)
        headers, body = target.got[0]
        self.assertEqual(json.loads(body)["data"], {"n": 1})
        self.assertEqual(headers["webhook-id"], cursor)
        self.assertEqual(headers["pushpull-after"], endpoint["cursor"])
        self.assertLess(abs(int(headers["webhook-timestamp"]) - time.time()), 60)
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(endpoint["secret"].removeprefix("whsec_"))
        wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        self.assertIn(wanted, headers["webhook-signature"].split())
        self.eventually(lambda: self.hub.get(f"/webhooks/{endpoint['id']}").json()["cursor"] == cursor)

    def test_what_fails_is_tried_again_in_order_with_the_same_id(self):
        topic, target = self.topic(), self.target([(500, {}), (302, {"Location": "/elsewhere"})])
        self.register(url=target.url, topics=[topic])
        cursors = [self.hub.publish(topic, n) for n in range(3)]
        self.eventually(lambda: len(target.got) == 5)
        ids = [headers["webhook-id"] for headers, _ in target.got]
        self.assertEqual(ids, [cursors[0]] * 3 + cursors[1:])

    def test_410_disables_it(self):
        topic, target = self.topic(), self.target([(410, {})])
        endpoint = self.register(url=target.url, topics=[topic]).json()
        self.hub.publish(topic, 1)
        path = f"/webhooks/{endpoint['id']}"
        self.eventually(lambda: self.hub.get(path).json()["state"] == "disabled")
        self.hub.publish(topic, 2)
        self.assertEqual(len(target.got), 1)
        self.assertEqual(self.hub.ask("DELETE", path).status, 204)
        self.assertProblem(self.hub.get(path), 404)

    def test_special_addresses_are_refused(self):
        for host in ("10.0.0.1", "169.254.169.254", "192.168.1.1", "[::1]", "[fe80::1]", "0.0.0.0", "[::ffff:10.0.0.1]"):
            with self.subTest(host):
                self.assertProblem(self.register(url=f"http://{host}/x", topics=["a"]), 400, "url")

    def test_bad_registrations_name_what_is_wrong(self):
        self.assertProblem(self.register(url="ftp://127.0.0.1/", topics=["a"]), 400, "url")
        self.assertProblem(self.register(url="http://127.0.0.1/", topics=["a..b"]), 400, "topics")
        self.assertProblem(self.register(url="http://127.0.0.1/", topics=["a"], secret="whsec_short"), 400, "secret")
        self.assertProblem(self.register(url="http://127.0.0.1/", topics=["a"], after="no cursor"), 400, "after")

    def test_without_the_flag_there_is_no_such_path(self):
        bare = Hub()
        self.addCleanup(bare.stop)
        answer = bare.ask("POST", "/webhooks", headers={"Content-Type": "application/json"}, body=b"{}")
        self.assertProblem(answer, 404)
