"""GET and HEAD /topics/{topic}: the newest event's payload (section 4)."""

import time
import unittest
from email.utils import parsedate_to_datetime

from hub import Contract


class Latest(Contract):
    def test_the_payload_as_is_with_its_headers(self):
        topic = self.topic()
        self.hub.publish(topic, b"old", "text/plain")
        answer = self.hub.post(topic, b"\0\xffnew\n", "application/x-thing",
                               {"Pushpull-Key": "k%20e", "Pushpull-Event": "ev"})
        cursor = answer.json()["cursor"]
        got = self.hub.get(f"/topics/{topic}")
        self.assertEqual((got.status, got.body), (200, b"\0\xffnew\n"))
        self.assertEqual(got.header("content-type"), "application/x-thing")
        self.assertEqual(got.header("etag"), f'"{cursor}"')
        self.assertEqual(got.header("pushpull-event"), "ev")
        self.assertEqual(got.header("pushpull-key"), "k%20e")
        modified = parsedate_to_datetime(got.header("last-modified")).timestamp()
        self.assertLess(abs(modified - time.time()), 10)

    def test_without_event_and_key_there_are_no_such_headers(self):
        topic = self.topic()
        self.hub.publish(topic, 1)
        got = self.hub.get(f"/topics/{topic}")
        self.assertIsNone(got.header("pushpull-event"))
        self.assertIsNone(got.header("pushpull-key"))

    def test_head(self):
        topic = self.topic()
        self.hub.publish(topic, b"12345", "text/plain")
        get, head = self.hub.get(f"/topics/{topic}"), self.hub.ask("HEAD", f"/topics/{topic}")
        self.assertEqual((head.status, head.header("content-length"), head.body), (200, "5", b""))
        for name in ("etag", "content-type", "last-modified"):
            self.assertEqual(head.header(name), get.header(name))
        self.assertEqual(self.hub.ask("HEAD", "/topics/never-published").status, 404)

    def test_304_on_a_matching_if_none_match(self):
        topic = self.topic()
        cursor = self.hub.publish(topic, 1)
        for value in (f'"{cursor}"', f'W/"{cursor}"', f'"x-1", "{cursor}"', "*"):
            for method in ("GET", "HEAD"):
                got = self.hub.ask(method, f"/topics/{topic}", headers={"If-None-Match": value})
                self.assertEqual((got.status, got.body), (304, b""), value)
                self.assertEqual(got.header("etag"), f'"{cursor}"')
        self.assertEqual(self.hub.get(f"/topics/{topic}", headers={"If-None-Match": '"x-1"'}).status, 200)
        self.hub.publish(topic, 2)
        got = self.hub.get(f"/topics/{topic}", headers={"If-None-Match": f'"{cursor}"'})
        self.assertEqual((got.status, got.body), (200, b"2"))

    def test_404_if_the_topic_has_none_and_400_if_it_is_none(self):
        self.assertProblem(self.hub.get("/topics/never-published"), 404)
        for bad in ("a..b", "a.*", "%3E", "x" * 256, "a%20b"):
            self.assertProblem(self.hub.get(f"/topics/{bad}"), 400, "topic")

    def test_parameters(self):
        topic = self.topic()
        self.hub.publish(topic, 1)
        self.assertProblem(self.hub.get(f"/topics/{topic}", {"x": 1}), 400, "x")
        self.assertEqual(self.hub.get(f"/topics/{topic}", {"_x": 1}).status, 200)


class Aged(Contract):
    FLAGS = ("--retain-seconds", "0.2", "--retain-topic-bytes", "2000")

    def test_a_topics_newest_event_outlives_age(self):
        topic = self.topic()
        self.hub.publish(topic, b"kept", "text/plain")
        time.sleep(0.5)
        self.hub.publish(self.topic(), 1)
        self.assertEqual(self.hub.get(f"/topics/{topic}").body, b"kept")

    def test_a_topics_newest_event_outlives_bytes(self):
        topic = self.topic()
        self.hub.publish(topic, b"x" * 5000, "text/plain")
        self.assertEqual(len(self.hub.get(f"/topics/{topic}").body), 5000)


if __name__ == "__main__":
    unittest.main()
