"""What a consumer may choose: snapshot, last, conflation, rate (section 2)."""

import time
import unittest

from hub import Contract, data, seq_of
from sse import Sse
from wire import Ws


class Keyed(Contract):
    FLAGS = ("--keep-alive", "0.3", "--retain-keys", "4")
    PATHS = ("/poll",)

    def quotes(self):
        """A topic whose newest by key are a=3, c=4, b=5; and its last cursor."""
        topic = self.topic()
        for key, value in (("a", 0), ("b", 1), (None, 2), ("a", 3), ("c", 4), ("b", 5), (None, 6)):
            at = self.hub.publish(topic, value, key=key)
        return topic, at

    def check_snapshot(self, events, expected):
        self.assertEqual([(it["key"], it["data"]) for it in events], expected)
        for event in events:
            self.assertIs(event["snapshot"], True)
            self.assertNotIn("prev", event)
        self.assertEqual([seq_of(it["cursor"]) for it in events], sorted(seq_of(it["cursor"]) for it in events))

    def test_a_poll_returns_it_whole(self):
        topic, at = self.quotes()
        for path in ("/poll", "/longpoll"):
            page = self.hub.get(path, {"topic": topic, "start": "snapshot", "limit": 1}).json()
            self.check_snapshot(page["events"], [("a", 3), ("c", 4), ("b", 5)])
            self.assertIs(page["more"], False)
            self.assertGreaterEqual(seq_of(page["cursor"]), seq_of(at))
            self.hub.publish(topic, 7, key="a")
            rest = self.hub.poll({"topic": topic, "after": page["cursor"]})["events"]
            self.assertEqual(data(rest), [7])
            self.assertNotIn("snapshot", rest[0])
            topic, at = self.quotes()

    def test_sse_tells_no_place_until_it_is_complete(self):
        topic, at = self.quotes()
        with Sse(self.hub, {"topic": topic, "start": "snapshot", "format": "json"}) as stream:
            events = []
            while (block := stream.block()).id is None:
                if block.lines is not None:
                    events.append(block.json())
            self.assertIsNone(block.lines)
            self.check_snapshot(events, [("a", 3), ("c", 4), ("b", 5)])
            self.assertGreaterEqual(seq_of(stream.last_id), seq_of(at))
            live = self.hub.publish(topic, 7, key="a")
            block = stream.event()
            self.assertEqual((block.json()["data"], block.id), (7, live))
            self.assertNotIn("snapshot", block.json())

    def test_a_websocket_tells_its_place_by_a_heartbeat_when_it_is_complete(self):
        topic, at = self.quotes()
        with Ws(self.hub, {"topic": topic, "start": "snapshot"}) as ws:
            events = []
            while "heartbeat" not in (item := ws.next()):
                events.append(item)
            self.check_snapshot(events, [("a", 3), ("c", 4), ("b", 5)])
            self.assertGreaterEqual(seq_of(item["heartbeat"]["cursor"]), seq_of(at))
            self.hub.publish(topic, 7, key="a")
            self.assertEqual(ws.event()["data"], 7)

    def test_by_subscribe(self):
        topic, at = self.quotes()
        with Ws(self.hub) as ws:
            ws.tell({"subscribe": {"id": 1, "topics": [topic], "start": "snapshot"}})
            items = []
            while "heartbeat" not in (item := ws.next()) or "cursor" not in item["heartbeat"]:
                items.append(item)
            (ok,) = [it["ok"] for it in items if "ok" in it]
            self.assertNotIn("cursor", ok)
            self.check_snapshot([it for it in items if "topic" in it], [("a", 3), ("c", 4), ("b", 5)])

    def test_an_empty_snapshot_is_complete_at_once(self):
        with Sse(self.hub, {"topic": self.topic(), "start": "snapshot"}) as stream:
            stream.until(lambda it: it.last_id)
            self.assertCursor(stream.last_id)
        page = self.hub.poll({"topic": self.topic(), "start": "snapshot"})
        self.assertEqual(page["events"], [])

    def test_a_keyed_event_with_an_empty_payload_removes_its_key(self):
        topic, _ = self.quotes()
        self.hub.publish(topic, b"", "application/octet-stream", key="c")
        page = self.hub.poll({"topic": topic, "start": "snapshot"})
        self.check_snapshot(page["events"], [("a", 3), ("b", 5)])

    def test_over_several_topics_in_rising_seq(self):
        stem = self.topic()
        for n, (leaf, key) in enumerate((("x", "a"), ("y", "a"), ("x", "b"), ("y", "b"), ("x", "a"))):
            self.hub.publish(f"{stem}.{leaf}", n, key=key)
        page = self.hub.poll({"topic": f"{stem}.*", "start": "snapshot"})
        self.check_snapshot(page["events"], [("a", 1), ("b", 2), ("b", 3), ("a", 4)])

    def test_beyond_retain_keys_the_oldest_is_dropped_and_told(self):
        topic = self.topic()
        for n in range(6):
            self.hub.publish(topic, n, key=f"k{n}")
        page = self.hub.poll({"topic": topic, "start": "snapshot"})
        self.assertIn("gap", page["events"][0])
        self.check_snapshot(page["events"][1:], [(f"k{n}", n) for n in range(2, 6)])
        with Sse(self.hub, {"topic": topic, "start": "snapshot", "format": "json"}) as stream:
            blocks = stream.events(5)
            self.assertEqual(blocks[0].event, "pushpull-gap")
            self.check_snapshot([it.json() for it in blocks[1:]], [(f"k{n}", n) for n in range(2, 6)])

    def test_last(self):
        stem = self.topic()
        for n, leaf in enumerate("aabbc"):
            at = self.hub.publish(f"{stem}.{leaf}", n)
        for topics in ([f"{stem}.*"], [f"{stem}.a", f"{stem}.b", f"{stem}.c", f"{stem}.none"]):
            page = self.hub.poll({"topic": topics, "start": "last", "limit": 1})
            self.assertEqual(data(page["events"]), [1, 3, 4])
            self.assertTrue(all("prev" not in it for it in page["events"]))
            self.assertGreaterEqual(seq_of(page["cursor"]), seq_of(at))
            with Sse(self.hub, {"topic": topics, "start": "last"}) as stream:
                self.assertEqual([it.json()["data"] for it in stream.events(3)], [1, 3, 4])
                stream.until(lambda it: it.last_id)
                self.assertGreaterEqual(seq_of(stream.last_id), seq_of(at))
        with Ws(self.hub, {"topic": f"{stem}.*", "start": "last"}) as ws:
            self.assertEqual(data(ws.events(3)), [1, 3, 4])
            self.hub.publish(f"{stem}.b", 5)
            self.assertEqual(ws.event()["data"], 5)

    def test_a_raw_websocket_may_start_with_the_last(self):
        topic = self.topic()
        self.hub.publish(topic, 0)
        self.hub.publish(topic, 1)
        with Ws(self.hub, {"topic": topic, "start": "last"}, protocol=None) as ws:
            self.assertEqual(ws.message(), "1")

    def test_snapshot_then_live_without_a_hole(self):
        topic = self.topic()
        for n in range(100):
            self.hub.publish(topic, n, key=f"k{n % 3}")
        with Ws(self.hub, {"topic": topic, "start": "snapshot"}) as ws:
            for n in range(100, 150):
                self.hub.publish(topic, n, key=f"k{n % 3}")
            seen = data(ws.events(1))
            while seen[-1] != 149:
                seen.append(ws.event()["data"])
            self.assertEqual(seen, sorted(set(seen)))
            self.assertEqual(seen[3:], list(range(seen[2] + 1, 150)))


class Conflation(Contract):
    FLAGS = ("--keep-alive", "0.3", "--retain-messages", "20000")
    PATHS = ("/poll",)
    SENT = (("a", 0), (None, 1), ("b", 2), ("a", 3), (None, 4), ("a", 5), ("c", 6))
    KEPT = [1, 2, 4, 5, 6]

    def publish_sent(self):
        topic = self.topic()
        start = self.hub.head()
        for key, value in self.SENT:
            at = self.hub.publish(topic, value, key=key)
        return topic, start, at

    def test_of_the_waiting_only_the_newest_of_each_key(self):
        topic, start, at = self.publish_sent()
        for path in ("/poll", "/longpoll"):
            page = self.hub.get(path, {"topic": topic, "after": start, "conflate": "key"}).json()
            self.assertEqual(data(page["events"]), self.KEPT)
            self.assertGreaterEqual(seq_of(page["cursor"]), seq_of(at))
            self.assertRising(page["events"])
        with Sse(self.hub, {"topic": topic, "after": start, "conflate": "key", "format": "json"}) as stream:
            self.assertEqual([it.json()["data"] for it in stream.events(5)], self.KEPT)
        with Ws(self.hub, {"topic": topic, "after": start, "conflate": "key"}) as ws:
            self.assertEqual(data(ws.events(5)), self.KEPT)
            beat = ws.until("heartbeat")["heartbeat"]
            self.assertEqual(beat["conflated"], 2)
            self.assertGreaterEqual(seq_of(beat["cursor"]), seq_of(at))
        self.assertRegex(self.hub.get("/metrics").body.decode(), r"(?m)^pushpull_conflated_total [1-9]")

    def test_prev_never_lies(self):
        topic, start, _ = self.publish_sent()
        events = self.hub.poll({"topic": topic, "after": start, "conflate": "key"})["events"]
        seen = {event["cursor"] for event in events}
        for event in events[1:]:
            if event.get("prev") is not None:
                self.assertIn(event["prev"], seen)

    def test_each_topic_has_keys_of_its_own(self):
        stem = self.topic()
        start = self.hub.head()
        for n in range(6):
            self.hub.publish(f"{stem}.{n % 2}", n, key="k")
        page = self.hub.poll({"topic": f"{stem}.*", "after": start, "conflate": "key"})
        self.assertEqual(data(page["events"]), [4, 5])

    def test_who_keeps_up_gets_all(self):
        topic = self.topic()
        with Sse(self.hub, {"topic": topic, "conflate": "key", "format": "json"}) as stream:
            stream.until(lambda it: it.last_id)
            for n in range(10):
                self.hub.publish(topic, n, key="k")
                self.assertEqual(stream.event().json()["data"], n)

    def test_with_a_limit_none_is_lost(self):
        topic = self.topic()
        start = self.hub.head()
        for n in range(60):
            self.hub.publish(topic, n, key=f"k{n % 20}")
        place, newest, seen = start, {}, []
        while True:
            page = self.hub.poll({"topic": topic, "after": place, "conflate": "key", "limit": 7})
            seen += page["events"]
            for event in page["events"]:
                newest[event["key"]] = event["data"]
            place = page["cursor"]
            if not page["more"]:
                break
        self.assertEqual(newest, {f"k{n % 20}": n for n in range(40, 60)})
        self.assertRising(seen)

    def test_it_looks_a_bounded_way_ahead(self):
        topic = self.topic()
        start = self.hub.head()
        body = b"\n".join(b"%d" % n for n in range(4000))
        for _ in range(3):
            answer = self.hub.post(topic, body, "application/x-ndjson", {"Pushpull-Key": "k"}, {"batch": "ndjson"})
        last = answer.json()["last"]
        place, seen = start, []
        while True:
            page = self.hub.poll({"topic": topic, "after": place, "conflate": "key"})
            seen, place = seen + page["events"], page["cursor"]
            if not page["more"]:
                break
        self.assertLessEqual(len(seen), 10)
        self.assertEqual(seen[-1]["cursor"], last)
        self.assertRising([it for it in seen if "gap" not in it])


class Rate(Contract):
    PATHS = ()

    def arrivals(self, source, parameters):
        topic = self.topic()
        parameters = {"topic": topic, "rate": "2", **parameters}
        if source is Sse:
            parameters["format"] = "json"
        with source(self.hub, parameters) as stream:
            if source is Sse:
                stream.until(lambda it: it.last_id)
            else:
                stream.next()
            times, values = [], []
            self.hub.publish(topic, 0, key="k")
            for n in range(1, 9):
                item = stream.event() if n == 1 else None
                if item is not None:
                    times.append(time.monotonic())
                    values.append(item.json() if source is Sse else item)
                self.hub.publish(topic, n, key="k")
            while values[-1]["data"] != 8:
                item = stream.event()
                times.append(time.monotonic())
                values.append(item.json() if source is Sse else item)
        return times, [it["data"] for it in values]

    def test_a_flush_is_all_that_waits(self):
        for source in (Sse, Ws):
            with self.subTest(source.__name__):
                times, values = self.arrivals(source, {})
                self.assertEqual(values, list(range(9)))
                flushes = [later for before, later in zip(times, times[1:]) if later - before > 0.2]
                self.assertLessEqual(len(flushes), 2)
                self.assertGreaterEqual(times[-1] - times[0], 0.4)

    def test_with_conflation_only_the_newest_waits(self):
        for source in (Sse, Ws):
            with self.subTest(source.__name__):
                _, values = self.arrivals(source, {"conflate": "key"})
                self.assertEqual(values, [0, 8])


if __name__ == "__main__":
    unittest.main()
