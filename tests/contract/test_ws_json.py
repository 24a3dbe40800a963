"""GET /ws with `pushpull.v1.json` (section 4)."""

import base64
import json
import time
import unittest

from hub import Contract, Hub, data, seq_of
from wire import CLOSE, Close, Ws


class Json(Contract):
    PATHS = ("/ws",)
    FLAGS = ("--keep-alive", "0.4", "--max-payload", "65536")

    def open(self, **parameters):
        ws = Ws(self.hub, parameters)
        self.addCleanup(ws.close)
        return ws

    def subscribed(self, *topics, **more):
        """A connection without topics that subscribed by frame; and its place."""
        ws = self.open()
        ws.tell({"subscribe": {"id": 1, "topics": list(topics), **more}})
        ok = ws.until("ok", "error")
        return ws, ok["ok"]["cursor"]

    def beats(self, ws, count=2):
        """What comes until `count` heartbeats have passed."""
        items = []
        while count:
            item = ws.next()
            self.assertIsInstance(item, dict, item)
            items.append(item)
            count -= "heartbeat" in item
        return items

    def test_a_heartbeat_comes_first_if_the_query_opened_it(self):
        topic = self.topic()
        at = self.hub.publish(topic, 0)
        for more, place in (({"after": at}, at), ({}, None), ({"start": "earliest"}, None)):
            first = self.open(topic=topic, **more).next()
            self.assertIn("heartbeat", first)
            self.assertCursor(first["heartbeat"]["cursor"])
            if place:
                self.assertEqual(first["heartbeat"]["cursor"], place)

    def test_events_are_those_of_section_3(self):
        topic = self.topic()
        at = self.hub.publish(topic, b'{"a": [1,\r\n2]}', key="k", event="e")
        ws = self.open(topic=topic, start="earliest")
        ws.next()
        message = ws.message()
        self.assertIn('"data":{"a": [1,  2]}', message)
        value = json.loads(message)
        value = value[0] if isinstance(value, list) else value
        self.assertLess(abs(value.pop("time") - time.time() * 1000), 60_000)
        self.assertEqual(value, {"topic": topic, "cursor": at, "prev": None, "event": "e", "key": "k",
                                 "type": "application/json", "data": {"a": [1, 2]}})
        self.hub.publish(topic, b"t\r\n", "text/plain")
        self.hub.publish(topic, b"\0", "image/x")
        self.assertEqual(ws.event()["data"], "t\r\n")
        self.assertEqual(ws.event()["data64"], "AA==")

    def test_a_heartbeat_every_keep_alive_interval_carries_the_place(self):
        ws = self.open(topic=self.topic())
        ws.next()
        began = time.monotonic()
        at = self.hub.publish(self.topic(), 1)
        for _ in range(3):
            beat = ws.until("heartbeat")["heartbeat"]
            self.assertLessEqual(set(beat), {"cursor", "conflated"})
        self.assertGreaterEqual(seq_of(beat["cursor"]), seq_of(at))
        self.assertTrue(0.7 < time.monotonic() - began < 4)

    def test_subscribe_answers_ok_with_the_place(self):
        topic = self.topic()
        at = self.hub.publish(topic, 0)
        ws, place = self.subscribed(topic)
        self.assertGreaterEqual(seq_of(self.assertCursor(place)), seq_of(at))
        new = self.hub.publish(topic, 1)
        self.assertEqual(ws.event()["cursor"], new)

    def test_the_first_subscribe_may_carry_any_parameter(self):
        topic = self.topic()
        at = [self.hub.publish(topic, n, key="k") for n in range(6)]
        for more, expected in (({"after": at[2]}, [3, 4, 5]), ({"start": "earliest"}, [0, 1, 2, 3, 4, 5]),
                               ({"start": "last"}, [5]), ({"after": at[2], "conflate": "key"}, [5]),
                               ({"after": at[3], "overflow": "close"}, [4, 5]), ({"start": "earliest", "window": 2}, [0, 1]),
                               ({"start": "earliest", "rate": 1000}, [0, 1, 2, 3, 4, 5])):
            with self.subTest(more):
                ws = self.open()
                ws.tell({"subscribe": {"id": 1, "topics": [topic], **more}})
                items = self.beats(ws, 1)
                self.assertEqual([it["data"] for it in items if "topic" in it], expected)
                self.assertEqual(sum("ok" in it for it in items), 1)

    def test_bad_subscriptions_are_errors_with_the_id(self):
        for body, parameter in (({"topics": ["a..b"]}, None), ({"topics": ["t"], "after": "nonsense"}, "after"),
                                ({"topics": ["t"], "start": "first"}, "start"), ({"topics": []}, None),
                                ({"topics": ["t"], "after": "a-1", "start": "latest"}, None),
                                ({"topics": [f"t{n}" for n in range(65)]}, None)):
            ws = self.open()
            ws.tell({"subscribe": {"id": "x", **body}})
            item = ws.until("error", "ok")
            self.assertIsInstance(item, dict, (body, item))
            self.assertEqual(item["error"]["id"], "x")
            self.assertProblemBody(item["error"], 400)
            if parameter:
                self.assertEqual(item["error"].get("parameter"), parameter)
            ws.tell({"subscribe": {"id": 2, "topics": ["t"]}})
            self.assertEqual(ws.until("ok", "error")["ok"]["id"], 2)

    def test_later_ones_add_topics_from_the_place_on(self):
        first, second = self.topic(), self.topic()
        self.hub.publish(second, "before")
        ws, _ = self.subscribed(first)
        ws.tell({"subscribe": {"id": 2, "topics": [second, first]}})
        place = ws.until("ok")["ok"]["cursor"]
        self.assertCursor(place)
        self.hub.publish(second, 1)
        self.hub.publish(first, 2)
        self.hub.publish(second, 3)
        events = ws.events(3)
        self.assertEqual(data(events), [1, 2, 3])
        self.assertRising(events)

    def test_a_place_or_option_in_a_later_one_is_an_error(self):
        ws, place = self.subscribed("t")
        for n, more in enumerate(({"after": place}, {"start": "latest"}, {"conflate": "key"}, {"overflow": "gap"},
                                  {"rate": 5}, {"window": 5}), 2):
            ws.tell({"subscribe": {"id": n, "topics": ["u"], **more}})
            error = ws.until("error", "ok")
            self.assertEqual(error["error"]["id"], n)
            self.assertProblemBody(error["error"], 400)

    def test_unsubscribe_removes_exact_entries(self):
        stem = self.topic()
        ws, _ = self.subscribed(f"{stem}.a", f"{stem}.b", f"{stem}.c.*")
        ws.tell({"unsubscribe": {"id": "u", "topics": [f"{stem}.a", f"{stem}.c.*"]}})
        ok = ws.until("ok", "error")["ok"]
        self.assertEqual(ok["id"], "u")
        self.assertCursor(ok["cursor"])
        for leaf in ("a", "c.x", "b"):
            self.hub.publish(f"{stem}.{leaf}", leaf)
        self.assertEqual(ws.event()["data"], "b")
        ws.tell({"unsubscribe": {"id": 3, "topics": [f"{stem}.*"]}})
        ws.until("ok", "error")
        self.hub.publish(f"{stem}.b", "still")
        self.assertEqual(ws.event()["data"], "still")

    def test_ids_are_numbers_or_strings_and_echoed(self):
        ws = self.open()
        for number in (0, 1, 2**53, -1, "", "x" * 100, "\u00e9\n"):
            ws.tell({"subscribe": {"id": number, "topics": ["t"]}})
            self.assertEqual(ws.until("ok", "error")["ok"]["id"], number)

    def test_without_an_id_only_errors_are_answered(self):
        topic = self.topic()
        ws = self.open()
        ws.tell({"subscribe": {"topics": [topic]}})
        ws.tell({"publish": {"topic": topic, "data": 1}})
        self.assertEqual(ws.event()["data"], 1)
        ws.tell({"publish": {"topic": "a..b", "data": 1}})
        error = ws.until("error", "ok", "published")["error"]
        self.assertNotIn("id", {k: v for k, v in error.items() if v is not None})
        self.assertProblemBody(error, 400)
        ws.tell({"unsubscribe": {"topics": ["other"]}})
        self.assertFalse([it for it in self.beats(ws) if "ok" in it or "published" in it])

    def test_publish(self):
        topic = self.topic()
        ws, _ = self.subscribed(topic)
        ws.text('{"publish":{"id":3,"topic":"%s","event":"e","key":"k","data":{"a" : 1.50 }}}' % topic)
        published = ws.until("published", "error")["published"]
        self.assertEqual(published["id"], 3)
        event = ws.until("topic")
        self.assertEqual((event["cursor"], event["event"], event["key"], event["type"]),
                         (published["cursor"], "e", "k", "application/json"))
        self.assertEqual(self.hub.get(f"/topics/{topic}").body, b'{"a" : 1.50 }')

    def test_publish_types(self):
        topic = self.topic()
        ws = self.open()
        for n, (members, kind, body) in enumerate((
            ({"data": "s"}, "application/json", b'"s"'), ({"data": None}, "application/json", b"null"),
            ({"type": "text/plain", "data": "h\u00e9\n"}, "text/plain", "h\u00e9\n".encode()),
            ({"type": "application/x+json", "data": [1]}, "application/x+json", b"[1]"),
            ({"type": "image/png", "data64": base64.b64encode(b"\0\xff").decode()}, "image/png", b"\0\xff"),
            ({"type": "application/octet-stream", "data64": ""}, "application/octet-stream", b""),
            ({"type": "text/plain", "data64": "aGk="}, "text/plain", b"hi"),
        )):
            ws.tell({"publish": {"id": n, "topic": topic, **members}})
            self.assertEqual(ws.until("published", "error").get("published", {}).get("id"), n, members)
            got = self.hub.get(f"/topics/{topic}")
            self.assertEqual((got.header("content-type"), got.body), (kind, body))

    def test_publish_errors(self):
        topic = self.topic()
        ws = self.open()
        for n, (members, status) in enumerate((
            ({"topic": "a.*", "data": 1}, 400), ({"topic": topic, "event": "open", "data": 1}, 400),
            ({"topic": topic, "key": "k" * 256, "data": 1}, 400), ({"topic": topic, "type": "text/plain", "data": 5}, 400),
            ({"topic": topic, "data64": "%%%"}, 400), ({"topic": topic, "data": 1, "data64": "AA=="}, 400),
            ({"topic": topic, "type": "text/plain", "data64": "/w=="}, 400),
            ({"topic": topic, "type": "application/json", "data64": "ew=="}, 400),
            ({"topic": topic, "idempotency": "i" * 256, "data": 1}, 400), ({"topic": topic, "data": "x" * 65536}, 413),
        )):
            ws.tell({"publish": {"id": n, **members}})
            item = ws.until("error", "published")
            self.assertIsInstance(item, dict, (members, item))
            self.assertEqual(item.get("error", {}).get("id"), n, (members, item))
            self.assertProblemBody(item["error"], status)
        self.assertEqual(self.hub.get(f"/topics/{topic}").status, 404)
        ws.tell({"publish": {"id": "after", "topic": topic, "data": 1}})
        self.assertIn("published", ws.until("error", "published"))

    def test_publish_idempotency_is_that_of_http(self):
        topic = self.topic()
        first = self.hub.post(topic, {"n": 1}, headers={"Idempotency-Key": "i"}).json()["cursor"]
        ws = self.open()
        ws.text('{"publish":{"id":1,"topic":"%s","idempotency":"i","data":{"n": 1}}}' % topic)
        self.assertEqual(ws.until("published", "error")["published"]["cursor"], first)
        ws.tell({"publish": {"id": 2, "topic": topic, "idempotency": "i", "data": 2}})
        self.assertProblemBody(ws.until("published", "error")["error"], 422)

    def test_an_array_of_frames(self):
        topic = self.topic()
        ws = self.open()
        ws.tell([{"subscribe": {"id": 1, "topics": [topic]}}, {"publish": {"id": 2, "topic": topic, "data": "x"}}])
        items = [ws.until("ok", "published", "topic", "error") for _ in range(3)]
        self.assertEqual({next(iter(it)) for it in items} - {"topic"}, {"ok", "published"})
        self.assertEqual(data([it for it in items if "topic" in it]), ["x"])

    def test_what_is_no_such_object_closes_with_4400(self):
        for text in ("", "{", "nonsense", "1", '"s"', "null", "{}", '{"x":{}}', '{"subscribe":1}', '{"subscribe":{"topics":"t"}}',
                     '{"subscribe":{"id":1,"topics":["t"],"unknown":1}}', '{"publish":{"topic":"t","data":1,"x":1}}',
                     '{"subscribe":{"topics":["t"]},"unsubscribe":{"topics":["t"]}}', '{"credit":{"events":5,"x":1}}',
                     '[{"subscribe":{"topics":["t"]}},1]', '{"subscribe":{"id":{},"topics":["t"]}}', '{"heartbeat":{}}'):
            ws = self.open()
            ws.text(text)
            item = ws.until("ok", "error", "published")
            self.assertIsInstance(item, Close, (text, item))
            self.assertEqual((item.code, item.slug), (4400, "bad-request"), text)

    def test_an_event_that_matches_several_entries_is_sent_once(self):
        stem = self.topic()
        ws, _ = self.subscribed(f"{stem}.a", f"{stem}.*", f"{stem}.>", ">")
        self.hub.publish(f"{stem}.a", 1)
        self.hub.publish(f"{stem}.a", 2)
        self.assertEqual(data(ws.events(2)), [1, 2])

    def test_live_and_replay_meet_without_a_hole(self):
        topic = self.topic()
        for n in range(50):
            self.hub.publish(topic, n)
        ws = self.open(topic=topic, start="earliest")
        for n in range(50, 100):
            self.hub.publish(topic, n)
        events = ws.events(100)
        self.assertEqual(data(events), list(range(100)))
        self.assertEqual([it["prev"] for it in events], [None] + [it["cursor"] for it in events[:-1]])


class Credit(Contract):
    PATHS = ("/ws",)
    FLAGS = ("--keep-alive", "0.3")
    beats = Json.beats

    def test_at_most_n_then_as_credit_grants(self):
        topic = self.topic()
        at = [self.hub.publish(topic, n) for n in range(10)]
        with Ws(self.hub, {"topic": topic, "start": "earliest", "window": 3}) as ws:
            items = self.beats(ws, 4)
            self.assertEqual([it["data"] for it in items if "topic" in it], [0, 1, 2])
            told = [it["heartbeat"]["cursor"] for it in items if "heartbeat" in it]
            self.assertEqual(told[-1], at[2])
            ws.tell({"credit": {"events": 4}})
            self.assertEqual([it["data"] for it in self.beats(ws, 2) if "topic" in it], [3, 4, 5, 6])
            ws.tell({"credit": {"events": 2}})
            ws.tell({"credit": {"events": 50}})
            self.assertEqual(data(ws.events(3)), [7, 8, 9])
            for n in range(10, 60):
                self.hub.publish(topic, n)
            got = [it["data"] for it in self.beats(ws, 3) if "topic" in it]
            self.assertEqual(got, list(range(10, 59)))

    def test_credit_is_answered_where_it_bears_an_id(self):
        topic = self.topic()
        with Ws(self.hub, {"topic": topic, "window": 1}) as ws:
            ws.next()
            ws.tell({"credit": {"id": 9, "events": 1}})
            ok = ws.until("ok", "error")["ok"]
            self.assertEqual(ok["id"], 9)
            self.assertCursor(ok["cursor"])

    def test_bad_credit(self):
        for body in ({"events": 0}, {"events": -1}, {"events": 1.5}, {}):
            with Ws(self.hub, {"topic": "t", "window": 1}) as ws:
                ws.tell({"credit": {"id": 1, **body}})
                item = ws.until("ok", "error")
                if isinstance(item, Close):
                    self.assertEqual(item.code, 4400)
                else:
                    self.assertProblemBody(item["error"], 400)

    def test_heartbeats_run_while_credit_is_exhausted(self):
        topic = self.topic()
        self.hub.publish(topic, 0)
        self.hub.publish(topic, 1)
        with Ws(self.hub, {"topic": topic, "start": "earliest", "window": 1}) as ws:
            first = ws.event()
            self.hub.publish(self.topic(), 0)
            for _ in range(3):
                self.assertEqual(ws.until("heartbeat", "topic")["heartbeat"]["cursor"], first["cursor"])


class Drain(Contract):
    PATHS = ("/ws",)

    def test_goaway_then_1001_with_retry_and_place(self):
        hub = Hub(drain=5)
        streams = [Ws(hub, {"topic": "t"}) for _ in range(3)]
        bare, raw = Ws(hub), Ws(hub, {"topic": "t"}, protocol=None)
        for ws in streams:
            ws.next()
        at = hub.publish("t", 1)
        for ws in streams:
            self.assertEqual(ws.event()["cursor"], at)
        hub.terminate()
        delays = set()
        for ws in streams:
            away = ws.until("goaway")["goaway"]
            self.assertEqual((set(away), away["cursor"]), ({"retry", "cursor"}, at))
            self.assertGreater(away["retry"], 0)
            closed = ws.until("topic")
            self.assertEqual((closed.code, closed.option("cursor")), (1001, at))
            self.assertGreater(int(closed.option("retry")), 0)
            delays.add(away["retry"])
            ws.send(CLOSE, b"\x03\xe9")
            self.assertTrue(ws.link.ended())
            ws.close()
        for ws in (bare, raw):
            self.assertEqual(ws.closing().code, 1001)
            ws.send(CLOSE, b"\x03\xe9")
            self.assertTrue(ws.link.ended())
            ws.close()
        self.assertGreater(len(delays), 1)
        hub.wait(6)


if __name__ == "__main__":
    unittest.main()
