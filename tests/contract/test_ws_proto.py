"""GET /ws with `pushpull.v1.proto` (section 4): the frames of section 5, the rules of `pushpull.v1.json`."""

import time
import unittest

import protobuf
from hub import Contract, Hub, seq_of
from wire import BINARY, CLOSE, Close, Ws

NAME = "pushpull.v1.proto"
JSON = "pushpull.v1.json"


class Proto(Ws):
    """A WebSocket whose messages are frames."""

    def __init__(self, hub, parameters=(), **options):
        super().__init__(hub, parameters, protocol=NAME, **options)
        if self.response.header("sec-websocket-protocol") != NAME:
            raise AssertionError(self.response)

    def next(self, timeout=10.0):
        """The next frame, as its kind and its fields; or a `Close`. Each message is one frame."""
        message = self.message(timeout)
        if isinstance(message, Close):
            return message
        if not isinstance(message, bytes):
            raise AssertionError(f"a text message: {message!r}")
        (kind, fields), = protobuf.decode("ServerFrame", message).items()
        return kind, fields

    def until(self, *kinds, timeout=10.0):
        until = time.monotonic() + timeout
        while True:
            item = self.next(until - time.monotonic())
            if isinstance(item, Close) or item[0] in kinds:
                return item

    def event(self, timeout=10.0):
        kind, fields = self.until("event", "gap", timeout=timeout)
        if kind != "event":
            raise AssertionError(fields)
        return fields

    def tell(self, kind, **fields):
        self.send(BINARY, protobuf.encode("ClientFrame", {kind: fields}))


def payloads(events):
    return [event.get("payload", b"") for event in events]


class Frames(Contract):
    PATHS = ("/ws",)
    FLAGS = ("--keep-alive", "0.4", "--max-payload", "65536")

    def open(self, **parameters):
        ws = Proto(self.hub, parameters)
        self.addCleanup(ws.close)
        return ws

    def subscribed(self, *topics, **more):
        """A connection without topics that subscribed by frame; and its place."""
        ws = self.open()
        ws.tell("subscribe", id=1, topics=topics, **more)
        kind, ok = ws.until("ok", "error")
        self.assertEqual((kind, ok["id"]), ("ok", 1), ok)
        return ws, ok.get("cursor")

    def beats(self, ws, count=2):
        """What comes until `count` heartbeats have passed."""
        items = []
        while count:
            items.append(ws.next())
            count -= items[-1][0] == "heartbeat"
        return items

    def assertRefused(self, item, ident, status, parameter=None):
        self.assertEqual(item[0], "error", item)
        self.assertEqual(item[1].get("id"), ident, item)
        self.assertProblemBody(item[1], status)
        if parameter:
            self.assertEqual(item[1].get("parameter"), parameter, item)

    def test_of_those_offered_the_first_that_is_known_is_chosen(self):
        for offered, chosen in ((f"{NAME}, {JSON}", NAME), (f"{JSON}, {NAME}", JSON), (f"chat, {NAME}", NAME)):
            response = self.hub.upgrade({"topic": "t"}, protocol=offered)
            self.assertEqual((response.status, response.header("sec-websocket-protocol")), (101, chosen), offered)
        self.assertProblem(self.hub.upgrade({"topic": "t"}, protocol="pushpull.v2.proto"), 400)
        self.assertProblem(self.hub.upgrade({"topic": "t", "format": "json"}, protocol=NAME), 400, "format")

    def test_a_heartbeat_comes_first_if_the_query_opened_it(self):
        topic = self.topic()
        at = self.hub.publish(topic, 0)
        for more, place in (({"after": at}, at), ({}, None), ({"start": "earliest"}, None)):
            kind, beat = self.open(topic=topic, **more).next()
            self.assertEqual(kind, "heartbeat")
            self.assertCursor(beat["cursor"])
            if place:
                self.assertEqual(beat["cursor"], place)

    def test_events_say_what_those_of_section_3_say(self):
        topic = self.topic()
        first = self.hub.publish(topic, b'{"a": [1,\r\n2]}', key="k", event="e")
        second = self.hub.publish(topic, b"\0\xff", "image/x")
        ws = self.open(topic=topic, start="earliest")
        ws.next()
        event = ws.event()
        self.assertLess(abs(event.pop("time_ms") - time.time() * 1000), 60_000)
        self.assertEqual(event, {"topic": topic, "cursor": first, "prev": "", "event": "e", "key": "k",
                                 "content_type": "application/json", "payload": b'{"a": [1,  2]}'})
        event = ws.event()
        self.assertEqual((event["cursor"], event["prev"], event["content_type"], event["payload"]),
                         (second, first, "image/x", b"\0\xff"))

    def test_a_heartbeat_every_keep_alive_interval_carries_the_place(self):
        ws = self.open(topic=self.topic())
        ws.next()
        began = time.monotonic()
        at = self.hub.publish(self.topic(), 1)
        for _ in range(3):
            _, beat = ws.until("heartbeat")
        self.assertGreaterEqual(seq_of(beat["cursor"]), seq_of(at))
        self.assertTrue(0.7 < time.monotonic() - began < 4)

    def test_the_first_subscribe_may_carry_any_parameter(self):
        topic = self.topic()
        at = [self.hub.publish(topic, n, key="k") for n in range(6)]
        for more, expected in (({"after": at[2]}, "345"), ({"start": "START_EARLIEST"}, "012345"),
                               ({"start": "START_LAST"}, "5"), ({"after": at[2], "conflate": "CONFLATE_KEY"}, "5"),
                               ({"after": at[3], "overflow": "OVERFLOW_CLOSE"}, "45"),
                               ({"start": "START_EARLIEST", "window": 2}, "01"),
                               ({"start": "START_EARLIEST", "rate": 1000.0}, "012345")):
            with self.subTest(more):
                ws = self.open()
                ws.tell("subscribe", id=1, topics=[topic], **more)
                items = self.beats(ws, 1)
                events = [fields for kind, fields in items if kind == "event"]
                self.assertEqual(b"".join(payloads(events)).decode(), expected)
                self.assertEqual(sum(kind == "ok" for kind, _ in items), 1)

    def test_bad_subscriptions_are_errors_with_the_id(self):
        for body, parameter in (({"topics": ["a..b"]}, "topics"), ({"topics": ["t"], "after": "nonsense"}, "after"),
                                ({"topics": ["t"], "start": 77}, "start"), ({"topics": []}, "topics"),
                                ({"topics": ["t"], "after": "a-1", "start": "START_LATEST"}, "start"),
                                ({"topics": [f"t{n}" for n in range(65)]}, "topics")):
            ws = self.open()
            ws.tell("subscribe", id=5, **body)
            self.assertRefused(ws.until("error", "ok"), 5, 400, parameter)
            ws.tell("subscribe", id=2**64 - 1, topics=["t"])
            kind, ok = ws.until("ok", "error")
            self.assertEqual((kind, ok["id"]), ("ok", 2**64 - 1))

    def test_later_ones_add_topics_from_the_place_on(self):
        first, second = self.topic(), self.topic()
        self.hub.publish(second, "before")
        ws, place = self.subscribed(first)
        self.assertCursor(place)
        ws.tell("subscribe", id=2, topics=[second, first])
        self.assertCursor(ws.until("ok")[1]["cursor"])
        for topic, n in ((second, 1), (first, 2), (second, 3)):
            self.hub.publish(topic, n)
        events = [ws.event() for _ in range(3)]
        self.assertEqual(payloads(events), [b"1", b"2", b"3"])
        self.assertRising(events)

    def test_a_place_or_option_in_a_later_one_is_an_error(self):
        ws, place = self.subscribed("t")
        for n, more in enumerate(({"after": place}, {"start": "START_LATEST"}, {"conflate": "CONFLATE_KEY"},
                                  {"overflow": "OVERFLOW_GAP"}, {"rate": 5.0}, {"window": 5}), 2):
            ws.tell("subscribe", id=n, topics=["u"], **more)
            self.assertRefused(ws.until("error", "ok"), n, 400, next(iter(more)))

    def test_unsubscribe_removes_exact_entries(self):
        stem = self.topic()
        ws, _ = self.subscribed(f"{stem}.a", f"{stem}.b", f"{stem}.c.*")
        ws.tell("unsubscribe", id=9, topics=[f"{stem}.a", f"{stem}.c.*"])
        kind, ok = ws.until("ok", "error")
        self.assertEqual((kind, ok["id"]), ("ok", 9))
        self.assertCursor(ok["cursor"])
        for leaf in ("a", "c.x", "b"):
            self.hub.publish(f"{stem}.{leaf}", leaf)
        self.assertEqual(ws.event()["payload"], b'"b"')

    def test_without_an_id_only_errors_are_answered(self):
        topic = self.topic()
        ws = self.open()
        ws.tell("subscribe", topics=[topic])
        ws.tell("publish", topic=topic, payload=b"1")
        self.assertEqual(ws.event()["payload"], b"1")
        ws.tell("publish", topic="a..b", payload=b"1")
        self.assertRefused(ws.until("error", "ok", "published"), None, 400, "topic")
        ws.tell("unsubscribe", topics=["other"])
        self.assertFalse([it for it in self.beats(ws) if it[0] in ("ok", "published")])

    def test_publish(self):
        topic = self.topic()
        ws, _ = self.subscribed(topic)
        ws.tell("publish", id=3, topic=topic, event="e", key="k", content_type="application/json", payload=b'{"a" : 1.50 }')
        items = dict(ws.until("published", "event", "error") for _ in range(2))
        published, event = items["published"], items["event"]
        self.assertEqual((published["id"], published["cursor"], published["count"]), (3, event["cursor"], 1))
        self.assertEqual((event["event"], event["key"], event["payload"]), ("e", "k", b'{"a" : 1.50 }'))
        got = self.hub.get(f"/topics/{topic}")
        self.assertEqual((got.header("content-type"), got.body), ("application/json", b'{"a" : 1.50 }'))
        ws.tell("publish", id=4, topic=topic, payload=b"\0")
        self.assertEqual(ws.event()["content_type"], "application/octet-stream")

    def test_a_batch_is_published_whole(self):
        topic = self.topic()
        ws = self.open()
        ws.tell("publish", id=1, topic=topic, messages=[{"payload": b"a"}, {"payload": b"b", "key": "k"}])
        kind, published = ws.until("published", "error")
        self.assertEqual((kind, published["count"], published["cursor"]), ("published", 2, published["last"]))
        self.assertEqual(seq_of(published["last"]), seq_of(published["first"]) + 1)
        ws.tell("publish", id=2, topic=topic, messages=[{"payload": b"c"}, {"payload": b"{", "content_type": "application/json"}])
        self.assertRefused(ws.until("published", "error"), 2, 400)
        self.assertEqual(self.hub.get(f"/topics/{topic}").body, b"b")

    def test_publish_errors(self):
        topic = self.topic()
        ws = self.open()
        for n, (members, status) in enumerate((
            ({"topic": "a.*"}, 400), ({"topic": topic, "event": "open"}, 400), ({"topic": topic, "key": "k" * 256}, 400),
            ({"topic": topic, "content_type": "text/plain", "payload": b"\xff"}, 400),
            ({"topic": topic, "content_type": "application/json", "payload": b"{"}, 400),
            ({"topic": topic, "idempotency": "i" * 256}, 400), ({"topic": topic, "payload": b"x" * 65537}, 413),
        )):
            ws.tell("publish", id=n, **members)
            item = ws.until("error", "published")
            self.assertRefused(item, n, status)
            self.assertEqual(item[1]["outcome"], "not-applied")
        self.assertEqual(self.hub.get(f"/topics/{topic}").status, 404)

    def test_publish_idempotency_is_that_of_http(self):
        topic = self.topic()
        first = self.hub.post(topic, b"1", headers={"Idempotency-Key": "i"}).json()["cursor"]
        ws = self.open()
        said = {"topic": topic, "idempotency": "i", "content_type": "application/json"}
        ws.tell("publish", id=1, payload=b"1", **said)
        self.assertEqual(ws.until("published", "error")[1]["cursor"], first)
        ws.tell("publish", id=2, payload=b"2", **said)
        self.assertRefused(ws.until("published", "error"), 2, 422)

    def test_a_problem_is_that_of_json(self):
        ws = self.open()
        ws.tell("publish", id=1, topic="t", event="open", content_type="text/plain", payload=b"x")
        with Ws(self.hub) as other:
            other.tell({"publish": {"id": 1, "topic": "t", "event": "open", "type": "text/plain", "data": "x"}})
            self.assertEqual(ws.until("error")[1], other.until("error")["error"])

    def test_what_is_no_frame_closes_with_4400(self):
        whole = protobuf.encode("ClientFrame", {"subscribe": {"topics": ["t"]}})
        for data in (b"", b"\xff\xff\xff", whole[:-1], protobuf.tag(15, 2) + b"\0", b"{}"):
            ws = self.open()
            ws.send(BINARY, data)
            item = ws.until("ok", "error", "published")
            self.assertIsInstance(item, Close, (data, item))
            self.assertEqual((item.code, item.slug), (4400, "bad-request"), data)

    def test_text_closes_with_1003(self):
        ws = self.open()
        ws.text('{"subscribe":{"topics":["t"]}}')
        self.assertEqual(ws.closing().code, 1003)
        with Ws(self.hub) as other:
            other.send(BINARY, protobuf.encode("ClientFrame", {"subscribe": {"topics": ["t"]}}))
            self.assertEqual(other.closing().code, 1003, "and bytes where text is spoken")

    def test_what_a_later_version_adds_is_passed_over(self):
        ws = self.open()
        more = protobuf.tag(100, 2) + protobuf.delimited(b"later")
        ws.send(BINARY, protobuf.encode("ClientFrame", {"subscribe": {"id": 1, "topics": ["t"]}}) + more)
        self.assertEqual(ws.until("ok", "error")[0], "ok")

    def test_gaps_are_frames(self):
        topic = self.topic()
        ws = self.open(topic=topic, after="zzz-9")
        kind, gap = ws.next()
        self.assertEqual((kind, gap["reason"]), ("gap", "GAP_REASON_RESET"))
        self.assertEqual(ws.next()[0], "heartbeat", "only then the place")

    def test_a_snapshot_tells_its_place_when_it_is_complete(self):
        topic = self.topic()
        for n in range(4):
            at = self.hub.publish(topic, n, key=f"k{n % 2}")
        ws, place = self.subscribed(topic, start="START_SNAPSHOT")
        self.assertIsNone(place)
        items = [ws.next() for _ in range(3)]
        self.assertEqual([kind for kind, _ in items], ["event", "event", "heartbeat"])
        self.assertEqual([fields.get("snapshot") for _, fields in items], [True, True, None])
        self.assertGreaterEqual(seq_of(items[2][1]["cursor"]), seq_of(at))

    def test_large_events_come_deflated_where_that_was_agreed_on(self):
        topic = self.topic()
        with Proto(self.hub, {"topic": topic}, extensions="permessage-deflate") as ws:
            ws.next()
            self.hub.publish(topic, b"again and " * 500, "text/plain")
            self.hub.publish(topic, b"short", "text/plain")
            self.assertEqual(payloads([ws.event(), ws.event()]), [b"again and " * 500, b"short"])
            self.assertEqual(ws.compressed, 1)

    def test_a_place_of_one_is_a_place_of_the_other(self):
        topic = self.topic()
        at = [self.hub.publish(topic, n) for n in range(4)]
        ws = self.open(topic=topic, after=at[0])
        ws.next()
        place = ws.event()["cursor"]
        with Ws(self.hub, {"topic": topic, "after": place}) as other:
            self.assertEqual(other.event()["cursor"], at[2])


class Credit(Contract):
    PATHS = ("/ws",)
    FLAGS = ("--keep-alive", "0.3")
    beats = Frames.beats

    def test_at_most_n_then_as_credit_grants(self):
        topic = self.topic()
        at = [self.hub.publish(topic, n) for n in range(10)]
        with Proto(self.hub, {"topic": topic, "start": "earliest", "window": 3}) as ws:
            items = self.beats(ws, 4)
            self.assertEqual(payloads([it for kind, it in items if kind == "event"]), [b"0", b"1", b"2"])
            self.assertEqual(items[-1][1]["cursor"], at[2])
            ws.tell("credit", id=9, events=4)
            items = self.beats(ws, 2)
            self.assertEqual(payloads([it for kind, it in items if kind == "event"]), [b"3", b"4", b"5", b"6"])
            self.assertEqual([it["id"] for kind, it in items if kind == "ok"], [9])
            ws.tell("credit", id=10)
            kind, error = ws.until("ok", "error")
            self.assertEqual((kind, error["id"], error["parameter"]), ("error", 10, "events"))


class Drain(Contract):
    PATHS = ("/ws",)

    def test_goaway_then_1001_with_retry_and_place(self):
        hub = Hub(drain=5)
        with Proto(hub, {"topic": "t"}) as ws:
            ws.next()
            at = hub.publish("t", 1)
            self.assertEqual(ws.event()["cursor"], at)
            hub.terminate()
            _, away = ws.until("goaway")
            self.assertEqual((set(away), away["cursor"]), ({"retry_ms", "cursor"}, at))
            closed = ws.next()
            self.assertEqual((closed.code, closed.option("retry"), closed.option("cursor")),
                             (1001, str(away["retry_ms"]), at))
            ws.send(CLOSE, b"\x03\xe9")
            self.assertTrue(ws.link.ended())
        hub.wait(6)


if __name__ == "__main__":
    unittest.main()
