"""A plain webhook receiver by http.server and the standardwebhooks library, then a sender to the URL given."""
import http.server
import json
import sys
import threading
import urllib.request
from datetime import datetime, timezone

from standardwebhooks import Webhook, WebhookVerificationError

secret, count, url = sys.argv[1], int(sys.argv[2]), sys.argv[3]
webhook = Webhook(secret)
taken = threading.Semaphore(0)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = webhook.verify(body, dict(self.headers))
            print(json.dumps([self.headers["webhook-id"], event["data"], self.headers["pushpull-after"]]), flush=True)
            status = 200
        except WebhookVerificationError as error:
            print(json.dumps(str(error)), flush=True)
            status = 401
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()
        taken.release()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
for _ in range(count):
    assert taken.acquire(timeout=20)

now = datetime.now(tz=timezone.utc)
body = '{"topic":"a","cursor":"e-5","time":1,"type":"text/plain","data":"gr\u00fc\u00dfe"}'
headers = {
    "content-type": "application/json",
    "webhook-id": "e-5",
    "webhook-timestamp": str(int(now.timestamp())),
    "webhook-signature": webhook.sign("e-5", now, body),
    "pushpull-after": "e-4",
}
request = urllib.request.Request(url, body.encode(), headers)
print(urllib.request.urlopen(request, timeout=20).status, flush=True)
