"""POST /topics/{topic} (sections 1 and 4)."""

import threading
import time
import unittest
from urllib.parse import unquote

from hub import Contract, seq_of
from wire import chunked, read_response, request_bytes


class Publish(Contract):
    FLAGS = ("--max-payload", "65536")
    PATHS = ("/poll",)

    def events(self, topic, **more):
        return self.hub.poll({"topic": topic, "start": "earliest", "limit": 1000, **more})["events"]

    def test_answers_201_with_the_cursor(self):
        topic = self.topic()
        first = self.hub.post(topic, {"a": 1})
        self.assertEqual(first.status, 201)
        self.assertEqual(first.header("content-type"), "application/json")
        self.assertEqual(set(first.json()), {"cursor"})
        second = self.hub.publish(topic, {"a": 2})
        self.assertLess(seq_of(self.assertCursor(first.json()["cursor"])), seq_of(self.assertCursor(second)))
        self.assertEqual([it["cursor"] for it in self.events(topic)], [first.json()["cursor"], second])

    def test_topics(self):
        for good in ("a", "A-z_09", "a.b.c", "x" * 255, ".".join("a" * 128)):
            self.assertEqual(self.hub.post(good, b"x", None).status, 201, good)
        for bad in ("x" * 256, ".a", "a.", "a..b", "a%20b", "%C3%A4", "a*", "a.*", "*", "%3E", "a.%3E", "a%2Fb", "a~"):
            self.assertProblem(self.hub.post(bad, b"x", None), 400, "topic", "not-applied")

    def test_a_topic_may_come_percent_encoded(self):
        self.assertEqual(self.hub.post("pct%2Eenc%6Fded", b"x", None).status, 201)
        self.assertEqual(len(self.events("pct.encoded")), 1)

    def test_content_type_is_kept_and_octet_stream_if_absent(self):
        for kind, kept in ((None, "application/octet-stream"), ("image/png", "image/png"),
                           ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
                           ("application/ld+json", "application/ld+json")):
            topic = self.topic()
            self.hub.publish(topic, b"[1]", kind)
            self.assertEqual(self.events(topic)[0]["type"], kept)
            self.assertEqual(self.hub.get(f"/topics/{topic}").header("content-type"), kept)

    def test_what_a_payload_is_by_its_type_alone(self):
        for kind, body, member, value in (
            ("application/json", b'{"a":[1,null]}', "data", {"a": [1, None]}),
            ("application/vnd.x+json", b'"s"', "data", "s"),
            ("application/json; charset=utf-8", b"7", "data", 7),
            ("APPLICATION/JSON", b"8", "data", 8),
            ("text/plain", "h\u00e9\r\n\0".encode(), "data", "h\u00e9\r\n\0"),
            ("text/csv", b"1,2", "data", "1,2"),
            ("application/octet-stream", b"abc", "data64", "YWJj"),
            ("application/xml", b"<a/>", "data64", "PGEvPg=="),
            ("application/octet-stream", b"", "data64", ""),
            ("text/plain", b"", "data", ""),
        ):
            topic = self.topic()
            self.hub.publish(topic, body, kind)
            (event,) = self.events(topic)
            self.assertEqual(event.get(member), value, kind)
            self.assertNotIn({"data": "data64", "data64": "data"}[member], event)

    def test_text_that_is_not_utf8_and_json_that_is_not_are_refused(self):
        topic = self.topic()
        for kind, body in (
            ("text/plain", b"\xff"), ("text/html", b"a\xc3"), ("application/json", b"{"), ("application/json", b"\xff"),
            ("application/json", b""), ("application/json", b"1 2"), ("application/json", b"{'a':1}"),
            ("application/json", b"01"), ("application/json", b"NaN"), ("application/json", b'"\x01"'),
            ("application/json", b'"a\nb"'), ("application/json", b"[1,]"), ("application/x+json", b"nul"),
            ("application/json", b"\xef\xbb\xbf1"), ("application/json", b'"\xed\xa0\x80"'),
        ):
            self.assertProblem(self.hub.post(topic, body, kind), 400, outcome="not-applied")
        self.assertEqual(self.events(topic), [])

    def test_json_is_carried_byte_for_byte_but_for_line_ends_between_tokens(self):
        topic = self.topic()
        body = b'\r\n{"a" :\t1.50E+2,\r\n"b":"\\u00e9\\n\xc3\xa9" , "a":-0}\n'
        kept = b'  {"a" :\t1.50E+2,  "b":"\\u00e9\\n\xc3\xa9" , "a":-0} '
        self.hub.publish(topic, body)
        self.assertEqual(self.hub.get(f"/topics/{topic}").body, kept)
        page = self.hub.get("/poll", {"topic": topic, "start": "earliest"}).body
        self.assertIn(b'"data":' + kept.strip(), page.replace(b'"data":  {', b'"data":{'))

    def test_event_and_key_headers_are_percent_encoded_both_ways(self):
        topic = self.topic()
        headers = {"Pushpull-Event": "tr%C3%A4de%20x", "Pushpull-Key": "k%2F%C3%A9%25"}
        self.assertEqual(self.hub.post(topic, 1, headers=headers).status, 201)
        (event,) = self.events(topic)
        self.assertEqual((event["event"], event["key"]), ("tr\u00e4de x", "k/\u00e9%"))
        latest = self.hub.get(f"/topics/{topic}")
        for name, value in (("pushpull-event", "tr\u00e4de x"), ("pushpull-key", "k/\u00e9%")):
            self.assertTrue(latest.header(name).isascii())
            self.assertEqual(unquote(latest.header(name)), value)

    def test_empty_headers_are_none(self):
        topic = self.topic()
        for _ in range(2):
            headers = {"Pushpull-Event": "", "Pushpull-Key": "", "Idempotency-Key": ""}
            self.assertEqual(self.hub.post(topic, 1, headers=headers).status, 201)
        events = self.events(topic)
        self.assertEqual(len(events), 2)
        for event in events:
            self.assertNotIn("event", event)
            self.assertNotIn("key", event)

    def test_bounds_of_event_name_key_and_idempotency_key(self):
        topic = self.topic()
        good = (("Pushpull-Event", "e" * 64), ("Pushpull-Event", "%C3%A4" * 32), ("Pushpull-Key", "k" * 255),
                ("Idempotency-Key", "i" * 255), ("Pushpull-Event", "opened"), ("Pushpull-Event", "pushpull"))
        for name, value in good:
            self.assertEqual(self.hub.post(topic, 1, headers={name: value}).status, 201, (name, value))
        count = len(self.events(topic))
        bad = (("Pushpull-Event", "e" * 65), ("Pushpull-Event", "%C3%A4" * 33), ("Pushpull-Event", "a%0Ab"),
               ("Pushpull-Event", "a%00"), ("Pushpull-Event", "a%7F"), ("Pushpull-Event", "a%0D"),
               ("Pushpull-Event", "open"), ("Pushpull-Event", "error"), ("Pushpull-Event", "message"),
               ("Pushpull-Event", "pushpull-gap"), ("Pushpull-Event", "pushpull-x"), ("Pushpull-Event", "%6Fpen"),
               ("Pushpull-Event", "%FF"), ("Pushpull-Key", "k" * 256), ("Pushpull-Key", "a%01b"),
               ("Pushpull-Key", "%C3"), ("Pushpull-Key", "a%09"), ("Idempotency-Key", "i" * 256))
        for name, value in bad:
            self.assertProblem(self.hub.post(topic, 1, headers={name: value}), 400, outcome="not-applied")
        self.assertEqual(len(self.events(topic)), count)

    def test_unknown_parameters(self):
        topic = self.topic()
        for parameters, name in ((("x", "1"), "x"), (("topic", "a"), "topic"), (("after", "a-1"), "after"),
                                 (("batch", "json"), "batch"), (("limit", "1"), "limit"), (("format", "raw"), "format")):
            self.assertProblem(self.hub.post(topic, 1, parameters=[parameters]), 400, name, "not-applied")
        self.assertEqual(self.hub.post(topic, 1, parameters=[("_x", "1"), ("_x", "2")]).status, 201)
        self.assertEqual(len(self.events(topic)), 1)

    def test_payload_limit(self):
        topic = self.topic()
        self.assertEqual(self.hub.post(topic, b"x" * 65536, None).status, 201)
        self.assertProblem(self.hub.post(topic, b"x" * 65537, None), 413, outcome="not-applied")
        with self.hub.link() as link:
            body = chunked(b"y" * 65537)
            link.send(request_bytes(self.hub.address, "POST", f"/topics/{topic}",
                                    [("Transfer-Encoding", "chunked")], body))
            self.assertProblem(read_response(link), 413, outcome="not-applied")
        with self.hub.link() as link:
            body = chunked(b"z" * 65536)
            link.send(request_bytes(self.hub.address, "POST", f"/topics/{topic}",
                                    [("Transfer-Encoding", "chunked")], body))
            self.assertEqual(read_response(link).status, 201)
        self.assertEqual(len(self.events(topic)), 2)

    def test_a_body_cut_short_publishes_nothing(self):
        topic = self.topic()
        with self.hub.link() as link:
            link.send(request_bytes(self.hub.address, "POST", f"/topics/{topic}", [("Content-Length", "10")]) + b"abc")
        with self.hub.link() as link:
            link.send(request_bytes(self.hub.address, "POST", f"/topics/{topic}",
                                    [("Transfer-Encoding", "chunked")]) + b"3\r\nabc\r\n")
        self.hub.publish(topic, b"whole", None)
        self.assertEqual([it["data64"] for it in self.events(topic)], ["d2hvbGU="])

    def test_expect_100_continue(self):
        topic = self.topic()
        with self.hub.link() as link:
            link.send(request_bytes(self.hub.address, "POST", f"/topics/{topic}",
                                    [("Content-Length", "3"), ("Expect", "100-continue")]))
            self.assertTrue(link.take_through(b"\r\n\r\n", self.soon()).startswith(b"HTTP/1.1 100"))
            link.send(b"abc")
            self.assertEqual(read_response(link).status, 201)

    def soon(self):
        return time.monotonic() + 5


class Defaults(Contract):
    FLAGS = ()

    def test_the_default_limit_is_1_mib(self):
        self.assertEqual(self.hub.post("big", bytes(1024 * 1024), None).status, 201)
        self.assertProblem(self.hub.post("big", bytes(1024 * 1024 + 1), None), 413, outcome="not-applied")


class Idempotency(Contract):
    PATHS = ("/poll",)

    def events(self, topic):
        return self.hub.poll({"topic": topic, "start": "earliest", "limit": 1000})["events"]

    def post(self, topic, body, key, **more):
        return self.hub.post(topic, body, headers={"Idempotency-Key": key}, **more)

    def test_a_repeat_gives_the_first_answer_and_publishes_nothing(self):
        topic = self.topic()
        first = self.post(topic, {"n": 1}, "a")
        self.hub.publish(topic, {"n": 2})
        again = self.post(topic, {"n": 1}, "a")
        self.assertEqual((again.status, again.json()), (201, first.json()))
        self.assertEqual(len(self.events(topic)), 2)

    def test_another_payload_is_422(self):
        topic = self.topic()
        self.post(topic, 1, "a")
        self.assertProblem(self.post(topic, 2, "a"), 422, outcome="not-applied")
        self.assertEqual(len(self.events(topic)), 1)

    def test_the_scope_is_topic_and_key(self):
        one, two = self.topic(), self.topic()
        cursors = {self.post(topic, 1, key).json()["cursor"] for topic in (one, two) for key in ("a", "b")}
        self.assertEqual(len(cursors), 4)

    def test_a_refused_publish_uses_no_key_up(self):
        topic = self.topic()
        self.assertProblem(self.post(topic, b"{", "a"), 400)
        self.assertProblem(self.hub.post(topic, 1, headers={"Idempotency-Key": "a", "Pushpull-Event": "open"}), 400)
        self.assertEqual(self.post(topic, 5, "a").status, 201)
        self.assertEqual([it["data"] for it in self.events(topic)], [5])

    def test_repeats_at_once_publish_one(self):
        topic, answers = self.topic(), []
        threads = [threading.Thread(target=lambda: answers.append(self.post(topic, 1, "a"))) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual({it.status for it in answers}, {201})
        self.assertEqual(len(answers), 12)
        self.assertEqual(len({it.json()["cursor"] for it in answers}), 1)
        self.assertEqual(len(self.events(topic)), 1)

    def test_a_batch_repeats_too(self):
        topic = self.topic()
        ask = lambda body: self.hub.post(topic, body, "application/x-ndjson", {"Idempotency-Key": "a"}, {"batch": "ndjson"})
        first = ask(b"1\n2\n")
        self.assertEqual(ask(b"1\n2\n").json(), first.json())
        self.assertProblem(ask(b"1\n3\n"), 422, outcome="not-applied")
        self.assertEqual(len(self.events(topic)), 2)


class Batch(Contract):
    FLAGS = ("--max-payload", "1024")
    PATHS = ("/poll",)

    def events(self, topic):
        return self.hub.poll({"topic": topic, "start": "earliest", "limit": 1000})["events"]

    def batch(self, topic, body, kind="application/x-ndjson", headers=()):
        return self.hub.post(topic, body, kind, headers, {"batch": "ndjson"})

    def test_each_line_is_one_event_in_order(self):
        topic = self.topic()
        answer = self.batch(topic, b'{"n":1}\r\n\r\n\n[2]\n"3"', headers={"Pushpull-Key": "k", "Pushpull-Event": "e"})
        self.assertEqual(answer.status, 201)
        events = self.events(topic)
        self.assertEqual([it["data"] for it in events], [{"n": 1}, [2], "3"])
        self.assertEqual(answer.json(), {"first": events[0]["cursor"], "last": events[2]["cursor"], "count": 3})
        for event in events:
            self.assertEqual((event["key"], event["event"], event["type"]), ("k", "e", "application/json"))
        self.assertRising(events)

    def test_all_or_none(self):
        topic = self.topic()
        for body in (b"1\n2\n{\n3\n", b"1\n\xff\n", b"1 2\n", b"1\n" + b'"' + b"x" * 2000 + b'"\n'):
            answer = self.batch(topic, body)
            self.assertIn(answer.status, (400, 413))
            self.assertProblem(answer, answer.status, outcome="not-applied")
        self.assertEqual(self.events(topic), [])

    def test_no_line_is_400_and_another_type_415(self):
        topic = self.topic()
        for body in (b"", b"\n", b"\r\n\n"):
            self.assertProblem(self.batch(topic, body), 400, outcome="not-applied")
        for kind in ("application/json", "text/plain", None):
            self.assertProblem(self.batch(topic, b"1\n", kind), 415, outcome="not-applied")
        self.assertEqual(self.events(topic), [])

    def test_a_batch_is_at_most_sixteen_payload_limits(self):
        topic = self.topic()
        line = b'"' + b"x" * 1021 + b'"\n'
        body = line * 16
        self.assertEqual(len(body), 16 * 1024)
        self.assertEqual(self.batch(topic, body).json()["count"], 16)
        self.assertProblem(self.batch(topic, body + b"1"), 413, outcome="not-applied")
        with self.hub.link() as link:
            head = [("Transfer-Encoding", "chunked"), ("Content-Type", "application/x-ndjson")]
            link.send(request_bytes(self.hub.address, "POST", f"/topics/{topic}?batch=ndjson", head, chunked(body + b"1")))
            self.assertProblem(read_response(link), 413, outcome="not-applied")
        self.assertEqual(len(self.events(topic)), 16)


if __name__ == "__main__":
    unittest.main()
