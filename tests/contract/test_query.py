"""The query (section 2): one table for every path that delivers."""

import time
import unittest

from hub import Contract, cursor, epoch, seq_of
from sse import Sse
from wire import query, read_head, request_bytes, upgrade_headers

STREAMS, POLLS = ("ws", "sse"), ("poll", "longpoll")
ALL = STREAMS + POLLS


class Table(Contract):
    """Each check asks every path that the hub serves."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cursor = cls.hub.publish("table", 1)

    def paths(self, only=ALL):
        for path in only:
            if self.hub.serves("/" + path):
                yield path

    def answer(self, path, parameters, protocol="pushpull.v1.json"):
        headers = upgrade_headers(protocol) if path == "ws" else {}
        if path == "longpoll" and not any(name == "wait" for name, _ in parameters):
            parameters = [*parameters, ("wait", "0")]
        if path != "sse":
            return self.hub.get("/" + path, parameters, headers)
        with self.hub.link() as link:
            link.send(request_bytes(self.hub.address, "GET", query("/sse", parameters)))
            head = read_head(link, time.monotonic() + 5)
            if head.status == 200:
                return head
            head.body = link.take(int(head.header("content-length")), time.monotonic() + 5)
            return head

    def accepted(self, parameters, only=ALL, **more):
        for path in self.paths(only):
            with self.subTest(path=path, parameters=parameters):
                got = self.answer(path, [("topic", "table"), *parameters], **more)
                self.assertEqual(got.status, 101 if path == "ws" else 200, got)

    def refused(self, parameters, name, only=ALL, topic="table", **more):
        for path in self.paths(only):
            with self.subTest(path=path, parameters=parameters):
                first = [("topic", topic)] if topic is not None else []
                self.assertProblem(self.answer(path, [*first, *parameters], **more), 400, name)

    def test_topic_is_required(self):
        self.refused([], "topic", ("sse", *POLLS), topic=None)

    def test_topics_and_patterns(self):
        for good in ("a", "a.b", "*", ">", "a.*", "*.a", "a.*.b", "a.>", "*.>", "x" * 255):
            self.accepted([("topic", good)])
        for bad in ("", "a..b", ".a", "a.", "a b", "\u00e4", "a*", "*a", "**", ">.a", "a.>.b", "a>", "x" * 256, "a,b"):
            self.refused([("topic", bad)], "topic", topic=None)

    def test_one_to_64_topics_where_the_same_twice_counts_once(self):
        many = [("topic", f"t{at}") for at in range(63)]
        self.accepted(many)
        self.accepted(many + [("topic", "t5"), ("topic", "table")])
        self.refused(many + [("topic", "t63")], "topic")

    def test_unknown_parameters(self):
        for name in ("x", "Topic", "topics", "limits", "cursor"):
            self.refused([(name, "1")], name)
        self.accepted([("_x", "1"), ("_x", "2"), ("_", ""), ("_topic", "..")])

    def test_parameters_where_they_do_not_belong(self):
        self.refused([("limit", "5")], "limit", STREAMS)
        self.refused([("wait", "5")], "wait", ("ws", "sse", "poll"))
        self.refused([("rate", "5")], "rate", POLLS)
        self.refused([("window", "5")], "window", ("sse", *POLLS))
        self.refused([("window", "5")], "window", ("ws",), protocol=None)
        self.refused([("format", "json")], "format", POLLS)
        self.refused([("format", "json")], "format", ("ws",))
        self.refused([("keepalive", "place")], "keepalive", ("ws", *POLLS))
        self.refused([("overflow", "latest")], "overflow", POLLS)
        self.refused([("batch", "ndjson")], "batch")

    def test_good_values(self):
        for name, values, only in (
            ("limit", ("1", "1000"), POLLS), ("wait", ("0", "1"), ("longpoll",)),
            ("overflow", ("gap", "close"), ALL), ("overflow", ("latest",), STREAMS), ("conflate", ("key",), ALL),
            ("rate", ("0.1", "1", "2.5", "1000"), STREAMS), ("window", ("1", "1000"), ("ws",)),
            ("format", ("raw", "json"), ("sse",)), ("keepalive", ("place", "comment"), ("sse",)),
            ("start", ("latest", "earliest", "last"), ALL),
            ("after", (self.cursor, "zzz-0", "3w5e11264sgsf-18446744073709551615"), ALL),
        ):
            for value in values:
                self.accepted([(name, value)], only)

    def test_bad_values(self):
        whole = ("", "0", "00", "01", "-1", "+1", "1.0", "1e2", "0x1", " 1", "1 ", "a", "\u0661")
        cursors = ("", "a", "a-", "-1", "A-1", "a-01", "a-+1", "a-1-1", "a_1", "a-1 ", "a-18446744073709551616",
                   "zzzzzzzzzzzzz-1", "3w5e11264sgsg-1", "a" * 200 + "-1", "latest")
        for name, values, only in (
            ("limit", (*whole, "1001", "99999999999999999999"), POLLS),
            ("wait", (*(it for it in whole if it != "0"), "61", "1.5", "0.0"), ("longpoll",)),
            ("overflow", ("", "drop", "Gap", "gap,close"), ALL),
            ("conflate", ("", "on", "true", "Key"), ALL),
            ("rate", ("", "0", "0.05", "01", "1000.1", "1001", "-1", "+1", "1e2", "inf", "nan", "1,5"), STREAMS),
            ("window", whole, ("ws",)),
            ("format", ("", "xml", "JSON"), ("sse",)),
            ("keepalive", ("", "none", "15"), ("sse",)),
            ("start", ("", "first", "Latest", "now"), ALL),
            ("after", cursors, ALL),
        ):
            for value in values:
                self.refused([(name, value)], name, only)

    def test_given_twice(self):
        for name, value, only in (
            ("limit", "5", POLLS), ("wait", "0", ("longpoll",)), ("overflow", "gap", ALL), ("conflate", "key", ALL),
            ("rate", "5", STREAMS), ("window", "5", ("ws",)), ("format", "raw", ("sse",)),
            ("keepalive", "place", ("sse",)), ("start", "latest", ALL), ("after", self.cursor, ALL),
            ("access_token", "x", ALL),
        ):
            self.refused([(name, value), (name, value)], name, only)

    def test_after_excludes_start(self):
        self.refused([("after", self.cursor), ("start", "latest")], ("after", "start"))

    def test_a_malformed_cursor_is_400_but_in_last_event_id(self):
        for headers in ({"If-None-Match": '"nonsense"'}, {"If-None-Match": '"A-1"'}, {"If-None-Match": "*"},
                        {"If-None-Match": f'"{self.cursor}", "{self.cursor}"'}):
            for path in self.paths(POLLS):
                self.assertProblem(self.hub.get("/" + path, {"topic": "table"}, headers), 400)
        with Sse(self.hub, {"topic": "table"}, {"Last-Event-ID": "nonsense!"}) as stream:
            self.assertEqual(stream.event().json()["gap"]["reason"], "reset")
        with Sse(self.hub, {"topic": "table"}, {"Last-Event-ID": ""}) as stream:
            stream.until(lambda it: it.last_id)
            self.assertEqual(stream.parser.blocks[0].event, None)


class Places(Contract):
    """Which of several resume points counts."""

    def check_first(self, parameters, headers, expected, path="/sse"):
        """The payload of the first event of an answer."""
        if path == "/sse":
            with Sse(self.hub, {"format": "json", **parameters}, headers) as stream:
                self.assertEqual(stream.event().json()["data"], expected)
        else:
            got = self.hub.get(path, {**parameters, "limit": 1}, headers)
            self.assertEqual(got.json()["events"][0]["data"], expected, got)

    def test_order(self):
        topic = self.topic()
        at = [self.hub.publish(topic, n) for n in range(8)]
        lei = {"Last-Event-ID": at[4]}
        self.check_first({"topic": topic, "after": at[2], "lastEventId": at[1]}, lei, 5)
        self.check_first({"topic": topic, "start": "earliest"}, lei, 5)
        self.check_first({"topic": topic, "after": at[2], "lastEventId": at[1]}, {}, 3)
        self.check_first({"topic": topic, "lastEventId": at[1], "start": "earliest"}, {}, 2)
        self.check_first({"topic": topic, "start": "earliest"}, {}, 0)
        for path in ("/poll", "/longpoll"):
            if not self.hub.serves(path):
                continue
            match = {"If-None-Match": f'"{at[4]}"'}
            self.check_first({"topic": topic, "after": at[2], "lastEventId": at[1]}, match, 5, path)
            self.check_first({"topic": topic, "start": "earliest"}, match, 5, path)
            self.check_first({"topic": topic, "start": "earliest"}, {"If-None-Match": f'W/"{at[4]}"'}, 5, path)
            self.check_first({"topic": topic, "after": at[2], "lastEventId": at[1]}, {}, 3, path)
            self.check_first({"topic": topic, "lastEventId": at[1], "start": "earliest"}, {}, 2, path)

    def test_an_empty_last_event_id_is_none(self):
        topic = self.topic()
        at = [self.hub.publish(topic, n) for n in range(3)]
        self.check_first({"topic": topic, "after": at[0]}, {"Last-Event-ID": ""}, 1)

    def test_the_default_start_is_latest(self):
        topic = self.topic()
        self.hub.publish(topic, "before")
        with Sse(self.hub, {"topic": topic, "format": "json"}) as stream:
            stream.until(lambda it: it.last_id)
            self.hub.publish(topic, "after")
            self.assertEqual(stream.event().json()["data"], "after")

    def test_one_cursor_serves_any_set_of_topics(self):
        stem = self.topic()
        at = [self.hub.publish(f"{stem}.{'ab'[n % 2]}", n) for n in range(10)]
        for topics, expected in (([f"{stem}.a"], [6, 8]), ([f"{stem}.b"], [5, 7, 9]), ([f"{stem}.>"], [5, 6, 7, 8, 9]),
                                 ([f"{stem}.a", f"{stem}.*"], [5, 6, 7, 8, 9]), ([">"], [5, 6, 7, 8, 9])):
            with Sse(self.hub, {"topic": topics, "after": at[4], "format": "json"}) as stream:
                events = [it.json() for it in stream.events(len(expected))]
                self.assertEqual([it["data"] for it in events], expected)
                self.assertRising(events)
                self.assertEqual(stream.last_id, at[expected[-1]])

    def test_patterns_match_whole_segments(self):
        stem = self.topic()
        names = [stem, f"{stem}.a", f"{stem}.a.b", f"{stem}.c", f"{stem}x.a", f"{stem}.c.b"]
        start = self.hub.head()
        for name in names:
            self.hub.publish(name, name)
        for pattern, expected in ((f"{stem}.*", [1, 3]), (f"{stem}.>", [1, 2, 3, 5]), (f"{stem}.*.b", [2, 5]),
                                  (f"*.a", [1, 4]), (">", [0, 1, 2, 3, 4, 5]), ("*", [0]), (f"{stem}.*.>", [2, 5]),
                                  (f"{stem}.c", [3])):
            with self.subTest(pattern=pattern), \
                    Sse(self.hub, {"topic": pattern, "after": start, "format": "json"}) as stream:
                got = [it.json()["topic"] for it in stream.events(len(expected))]
                self.assertEqual(got, [names[at] for at in expected])

    def test_reading_never_consumes(self):
        topic = self.topic()
        at = [self.hub.publish(topic, n) for n in range(5)]
        answers = []
        for _ in range(3):
            with Sse(self.hub, {"topic": topic, "after": at[1], "format": "json"}) as stream:
                answers.append([it.data for it in stream.events(3)])
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(answers[0], answers[2])

    def test_a_cursor_ahead_is_reset(self):
        topic = self.topic()
        at = self.hub.publish(topic, 1)
        ahead = cursor(epoch(at), seq_of(at) + 10**6)
        with Sse(self.hub, {"topic": topic, "after": ahead}) as stream:
            self.assertEqual(stream.event().json()["gap"]["reason"], "reset")


if __name__ == "__main__":
    unittest.main()
