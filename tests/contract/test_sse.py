"""GET /sse (section 4)."""

import base64
import json
import time
import unittest

from hub import Contract, Hub, epoch, seq_of
from sse import Sse


class Stream(Contract):
    def open(self, **parameters):
        headers = parameters.pop("headers", ())
        stream = Sse(self.hub, parameters, headers)
        self.addCleanup(stream.close)
        return stream

    def test_headers(self):
        stream = self.open(topic=self.topic())
        response = stream.response
        self.assertEqual(response.header("content-type").split(";")[0], "text/event-stream")
        self.assertEqual(response.words("cache-control"), {"no-cache", "no-transform"})
        self.assertEqual(response.header("x-accel-buffering"), "no")
        self.assertIsNone(response.header("content-encoding"))

    def test_first_comes_retry_and_the_starting_place(self):
        at = self.hub.publish(self.topic(), 0)
        for more in ({}, {"start": "earliest"}, {"after": at}):
            stream = self.open(topic=self.topic(), **more)
            stream.until(lambda it: it.last_id)
            first = stream.block()
            self.assertGreater(first.retry, 0)
            self.assertIsNone(first.lines)
            self.assertCursor(stream.last_id)
            self.assertIsNotNone(first.id if first.id else stream.block().id)

    def test_the_starting_place_of_after_is_that_place(self):
        topic = self.topic()
        at = [self.hub.publish(topic, n) for n in range(3)]
        stream = self.open(topic=topic, after=at[0])
        ids = []
        while len(ids) < 3:
            block = stream.block()
            ids += [block.id] if block.id else []
        self.assertEqual(ids, at)

    def test_raw_and_json(self):
        topic = self.topic()
        at = self.hub.publish(topic, b'{"a": [1,\r\n2]}', event="trade", key="k")
        raw = self.open(topic=topic, start="earliest").event()
        self.assertEqual((raw.id, raw.event, raw.data), (at, "trade", '{"a": [1,  2]}'))
        block = self.open(topic=topic, start="earliest", format="json").event()
        self.assertEqual((block.id, block.event, len(block.lines)), (at, "trade", 1))
        value = block.json()
        self.assertLess(abs(value.pop("time") - time.time() * 1000), 10_000)
        self.assertEqual(value, {"topic": topic, "cursor": at, "prev": None, "event": "trade", "key": "k",
                                 "type": "application/json", "data": {"a": [1, 2]}})
        self.assertIn('"data":{"a": [1,  2]}', block.data)

    def test_an_event_without_a_name_has_no_event_field(self):
        topic = self.topic()
        self.hub.publish(topic, 1)
        for form in ("raw", "json"):
            self.assertIsNone(self.open(topic=topic, start="earliest", format=form).event().event)

    def test_the_default_format(self):
        topic = self.topic()
        self.hub.publish(topic, "x")
        self.assertEqual(self.open(topic=topic, start="earliest").event().data, '"x"')
        self.assertEqual(self.open(topic=[topic, topic], start="earliest").event().data, '"x"')
        for topics in ([topic, self.topic()], [topic + ".*", topic]):
            self.assertEqual(self.open(topic=topics, start="earliest").event().json()["data"], "x")
        self.assertEqual(self.open(topic=topic, start="earliest", format="raw").event().data, '"x"')

    def test_raw_over_several_topics_if_asked(self):
        stem = self.topic()
        self.hub.publish(f"{stem}.a", b"A", "text/plain")
        self.hub.publish(f"{stem}.b", b"B", "text/plain")
        stream = self.open(topic=f"{stem}.*", start="earliest", format="raw")
        self.assertEqual([it.data for it in stream.events(2)], ["A", "B"])

    def test_raw_text_keeps_its_lines_and_spaces(self):
        topic = self.topic()
        texts = ["a\nb", "a\r\nb\rc\n\nd", "ends\n", "\n", "", " lead", "  two", "a: b", ":c", "id: 1\nevent: x\n\nretry: 5",
                 "\u2028\u00e9\U0001f600", "tab\t", "\r", "\r\r\n", "\ufeffbom", "n\x00ul"]
        for text in texts:
            self.hub.publish(topic, text.encode(), "text/plain")
        stream = self.open(topic=topic, start="earliest", format="raw")
        for text in texts:
            expected = text.replace("\r\n", "\n").replace("\r", "\n")
            block = stream.event()
            self.assertEqual(block.data, expected)
            self.assertEqual(block.event, None)

    def test_raw_binary_is_base64_under_its_own_name(self):
        topic = self.topic()
        for body in (b"\0\xff\n", b"", b"plain"):
            self.hub.publish(topic, body, "application/octet-stream")
        stream = self.open(topic=topic, start="earliest", format="raw")
        for body in (b"\0\xff\n", b"", b"plain"):
            block = stream.event()
            self.assertEqual(block.event, "pushpull-binary")
            self.assertEqual(base64.b64decode(block.data, validate=True), body)

    def test_json_carries_text_and_binary(self):
        topic = self.topic()
        self.hub.publish(topic, "a\r\nb\u2028".encode(), "text/plain")
        self.hub.publish(topic, b"\0\xff", "application/octet-stream")
        stream = self.open(topic=topic, start="earliest", format="json")
        text, binary = stream.event(), stream.event()
        self.assertEqual(len(text.lines), 1)
        self.assertEqual(text.json()["data"], "a\r\nb\u2028")
        self.assertEqual((binary.event, binary.json()["data64"]), (None, "AP8="))

    def test_live_events_follow_the_replay_without_a_hole(self):
        topic = self.topic()
        for n in range(50):
            self.hub.publish(topic, n)
        stream = self.open(topic=topic, start="earliest", format="json")
        for n in range(50, 100):
            self.hub.publish(topic, n)
        events = [it.json() for it in stream.events(100)]
        self.assertEqual([it["data"] for it in events], list(range(100)))
        self.assertEqual([it["prev"] for it in events], [None] + [it["cursor"] for it in events[:-1]])
        self.assertRising(events)

    def test_prev_chains_each_topic(self):
        stem = self.topic()
        start = self.hub.head()
        at = [self.hub.publish(f"{stem}.{'ab'[n % 2]}", n) for n in range(6)]
        stream = self.open(topic=f"{stem}.*", after=start)
        events = [it.json() for it in stream.events(6)]
        self.assertEqual([it["prev"] for it in events], [None, None, *at[:4]])
        stream = self.open(topic=f"{stem}.*", after=at[1])
        self.assertEqual([it["prev"] for it in (b.json() for b in stream.events(2))], at[:2])

    def test_resume_by_last_event_id(self):
        topic = self.topic()
        at = [self.hub.publish(topic, n) for n in range(5)]
        stream = self.open(topic=topic, headers={"Last-Event-ID": at[2]})
        self.assertEqual([it.data for it in stream.events(2)], ["3", "4"])
        self.assertEqual(stream.last_id, at[4])

    def test_unknown_or_malformed_last_event_id_is_a_reset(self):
        topic = self.topic()
        self.hub.publish(topic, 1)
        for value in ("zzz-5", "garbage", "1042", "a b", "-", "x" * 128, "caf\u00e9"):
            stream = self.open(topic=topic, headers={"Last-Event-ID": value})
            block = stream.event()
            self.assertEqual(block.event, "pushpull-gap", value)
            gap = block.json()["gap"]
            self.assertEqual(gap["reason"], "reset")
            self.assertEqual(block.id, gap["cursor"])
            self.assertEqual(stream.event().data, "1")

    def test_a_large_event_comes_whole(self):
        topic = self.topic()
        body = json.dumps("x" * 1_000_000).encode()
        self.hub.publish(topic, body)
        self.assertEqual(self.open(topic=topic, start="earliest").event().data.encode(), body)

    def test_a_payload_cannot_forge_a_place(self):
        topic = self.topic()
        at = self.hub.publish(topic, b"x\nid: forged\n\nid: forged\n", "text/plain")
        stream = self.open(topic=topic, start="earliest")
        stream.event()
        self.assertEqual(stream.last_id, at)


class KeepAlive(Contract):
    FLAGS = ("--keep-alive", "0.3")

    def test_a_comment_line_where_nothing_moved(self):
        with Sse(self.hub, {"topic": self.topic()}) as stream:
            stream.until(lambda it: it.last_id)
            place, before = stream.last_id, stream.parser.comments
            stream.until(lambda it: it.parser.comments >= before + 3, 5)
            self.assertEqual(stream.last_id, place)
            self.assertTrue(all(block.lines is None for block in stream.parser.blocks))

    def test_an_id_with_no_data_where_the_place_moved(self):
        with Sse(self.hub, {"topic": self.topic()}) as stream:
            stream.until(lambda it: it.last_id)
            for _ in range(3):
                other = self.hub.publish(self.topic(), 1)
                stream.until(lambda it: seq_of(it.last_id) >= seq_of(other), 5)
            self.assertTrue(all(block.lines is None for block in stream.parser.blocks))

    def test_keepalive_comment_tells_no_place(self):
        with Sse(self.hub, {"topic": self.topic(), "keepalive": "comment"}) as stream:
            stream.until(lambda it: it.last_id)
            place, before = stream.last_id, stream.parser.comments
            self.hub.publish(self.topic(), 1)
            stream.until(lambda it: it.parser.comments >= before + 3, 5)
            self.assertEqual(stream.last_id, place)

    def test_a_place_told_leaves_nothing_behind(self):
        topic, other = self.topic(), self.topic()
        with Sse(self.hub, {"topic": topic, "format": "json"}) as stream:
            stream.until(lambda it: it.last_id)
            told, seen = seq_of(stream.last_id), 0
            for n in range(40):
                self.hub.publish(other, n)
                at = self.hub.publish(topic, n)
                while True:
                    block = stream.block()
                    if block.id:
                        self.assertGreaterEqual(seq_of(block.id), told)
                        told = seq_of(block.id)
                    if block.lines is not None:
                        self.assertEqual((block.json()["data"], block.id), (n, at))
                        seen += 1
                        break
                    self.assertLess(told, seq_of(at))
            self.assertEqual(seen, 40)


class Full(Contract):
    FLAGS = ("--max-connections", "1", "--keep-alive", "0.3")

    def setUp(self):
        self.eventually(lambda: self.hub.get("/health").status == 200)

    def test_a_full_server(self):
        with Sse(self.hub, {"topic": "t"}) as held:
            held.until(lambda it: it.last_id)
            health = self.hub.get("/health")
            self.assertEqual(health.status, 503)
            self.assertIsInstance(health.json()["status"], str)
            self.assertEqual(self.hub.get("/health/live").status, 200)
            with Sse(self.hub, {"topic": "t"}) as refused:
                refused.until(lambda it: it.ended)
                self.assertGreater(refused.retry, 0)
                self.assertTrue(all(block.lines is None for block in refused.parser.blocks))
            for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
                got = self.hub.get("/sse", {"topic": "t"}, headers)
                self.assertProblem(got, 503)
                self.assertRegex(got.header("retry-after"), r"\A[0-9]+\Z")
            self.assertIn(b'pushpull_rejected_total{reason="full"}', self.hub.get("/metrics").body)
        self.eventually(lambda: self.hub.get("/health").status == 200)
        with Sse(self.hub, {"topic": "t"}) as again:
            again.until(lambda it: it.last_id)

    def test_the_retry_delay_is_jittered(self):
        with Sse(self.hub, {"topic": "t"}) as held:
            held.until(lambda it: it.last_id)
            delays = set()
            for _ in range(8):
                with Sse(self.hub, {"topic": "t"}) as refused:
                    refused.until(lambda it: it.ended)
                    delays.add(refused.retry)
            self.assertGreater(len(delays), 1)


class Drain(Contract):
    def test_on_shutdown_a_retry_the_place_and_the_end(self):
        hub = Hub("--keep-alive", "30", drain=5)
        streams = [Sse(hub, {"topic": topic}) for topic in ("t", "t", "other", ">")]
        for stream in streams:
            stream.until(lambda it: it.last_id)
        at = hub.publish("t", 1)
        for stream in streams[:2] + streams[3:]:
            self.assertEqual(stream.event().id, at)
        delays = []
        hub.terminate()
        for stream in streams:
            stream.parser.retry = None
            stream.until(lambda it: it.ended)
            self.assertGreater(stream.retry, 0)
            self.assertEqual(epoch(stream.last_id), epoch(at))
            if stream is not streams[2]:
                self.assertEqual(stream.last_id, at)
            delays.append(stream.retry)
            stream.close()
        self.assertGreater(len(set(delays)), 1)
        hub.wait(6)


if __name__ == "__main__":
    unittest.main()
