"""Gaps: what is told of what is gone (section 3), on every transport that can tell it."""

import json
import time
import unittest

from hub import Contract, cursor, data, epoch, seq_of
from sse import Sse
from wire import Close, Ws, read_response, request_bytes


class Retained(Contract):
    """Five events a topic are kept."""

    FLAGS = ("--retain-messages", "5", "--keep-alive", "0.5")
    PATHS = ("/poll",)

    def told(self, entries):
        """Gaps as (reason, after, before, cursor), events as payloads."""
        return [
            tuple(it["gap"][name] for name in ("reason", "after", "before", "cursor")) if "gap" in it else it["data"]
            for it in entries
        ]

    def busy(self, count=20):
        topic = self.topic()
        return topic, [self.hub.publish(topic, n) for n in range(count)]

    def test_evicted_comes_before_what_follows(self):
        topic, at = self.busy()
        expected = [("evicted", at[0], at[15], at[0]), 15, 16, 17, 18, 19]
        page = self.hub.poll({"topic": topic, "after": at[0]})
        self.assertEqual(self.told(page["events"]), expected)
        self.assertEqual(set(page["events"][0]), {"gap"})
        self.assertEqual(set(page["events"][0]["gap"]), {"after", "before", "cursor", "reason"})
        page = self.hub.get("/longpoll", {"topic": topic, "after": at[0], "wait": 30}).json()
        self.assertEqual(self.told(page["events"]), expected)
        with Sse(self.hub, {"topic": topic, "after": at[0], "format": "json"}) as stream:
            blocks = stream.events(6)
            self.assertEqual(self.told([it.json() for it in blocks]), expected)
            self.assertEqual((blocks[0].event, blocks[0].id, len(blocks[0].lines)), ("pushpull-gap", at[0], 1))
        with Ws(self.hub, {"topic": topic, "after": at[0]}) as ws:
            self.assertEqual(self.told(ws.events(6)), expected)

    def test_a_gap_in_raw_sse_is_the_same_object(self):
        topic, at = self.busy()
        with Sse(self.hub, {"topic": topic, "after": at[0], "format": "raw"}) as stream:
            gap = stream.event()
            self.assertEqual((gap.event, gap.id), ("pushpull-gap", at[0]))
            self.assertEqual(self.told([gap.json()]), [("evicted", at[0], at[15], at[0])])
            self.assertEqual([it.data for it in stream.events(5)], ["15", "16", "17", "18", "19"])

    def test_a_gap_counts_in_no_limit(self):
        topic, at = self.busy()
        page = self.hub.poll({"topic": topic, "after": at[0], "limit": 1})
        self.assertEqual(self.told(page["events"]), [("evicted", at[0], at[15], at[0]), 15])
        self.assertEqual((page["cursor"], page["more"]), (at[15], True))
        page = self.hub.poll({"topic": topic, "after": page["cursor"], "limit": 4})
        self.assertEqual(self.told(page["events"]), [16, 17, 18, 19])

    def test_a_place_inside_is_told_again_and_one_at_the_edge_is_not(self):
        topic, at = self.busy()
        for inside in (1, 7, 13):
            page = self.hub.poll({"topic": topic, "after": at[inside]})
            self.assertEqual(self.told(page["events"])[0], ("evicted", at[inside], at[15], at[inside]))
        page = self.hub.poll({"topic": topic, "after": at[14]})
        self.assertEqual(self.told(page["events"]), [15, 16, 17, 18, 19])

    def test_earliest_tells_no_gap(self):
        topic, at = self.busy()
        self.assertEqual(self.told(self.hub.poll({"topic": topic, "start": "earliest"})["events"]), [15, 16, 17, 18, 19])

    def test_holes_around_retained_events(self):
        """Two topics, one busy and one quiet, and the pattern over both."""
        stem = self.topic()
        quiet, busy = f"{stem}.quiet", f"{stem}.busy"
        start = self.hub.head()
        old = [self.hub.publish(quiet, f"q{n}") for n in range(3)]
        at = [self.hub.publish(busy, n) for n in range(10)]
        middle = self.hub.publish(quiet, "q3")
        at += [self.hub.publish(busy, n) for n in range(10, 30)]
        gap = ("evicted", start, at[25], start)
        for topics in ([f"{stem}.>"], [f"{stem}.*"], [quiet, busy]):
            expected = [gap, "q0", "q1", "q2", "q3", 25, 26, 27, 28, 29]
            self.assertEqual(self.told(self.hub.poll({"topic": topics, "after": start})["events"]), expected)
            with Sse(self.hub, {"topic": topics, "after": start, "format": "json"}) as stream:
                self.assertEqual(self.told([it.json() for it in stream.events(10)]), expected)
            with Ws(self.hub, {"topic": topics, "after": start}) as ws:
                self.assertEqual(self.told(ws.events(10)), expected)
        self.assertEqual(self.told(self.hub.poll({"topic": quiet, "after": start})["events"]), ["q0", "q1", "q2", "q3"])
        everything = self.hub.poll({"topic": ">", "after": start})["events"]
        self.assertEqual(self.told(everything), [gap, "q0", "q1", "q2", "q3", 25, 26, 27, 28, 29])
        page = self.hub.poll({"topic": f"{stem}.>", "after": middle})
        self.assertEqual(self.told(page["events"]), [("evicted", middle, at[25], middle), 25, 26, 27, 28, 29])
        page = self.hub.poll({"topic": f"{stem}.>", "after": old[1], "limit": 1})
        self.assertEqual(self.told(page["events"]), [("evicted", old[1], at[25], old[1]), "q2"])
        page = self.hub.poll({"topic": f"{stem}.>", "after": at[24]})
        self.assertEqual(self.told(page["events"]), [25, 26, 27, 28, 29])

    def test_prev_names_what_is_gone(self):
        topic, at = self.busy()
        page = self.hub.poll({"topic": topic, "after": at[0]})
        self.assertEqual([it["prev"] for it in page["events"][1:]], at[14:19])

    def test_no_gap_for_who_asked_for_nothing_that_is_gone(self):
        quiet = self.topic()
        at = self.hub.publish(quiet, "q")
        self.busy()
        self.assertEqual(self.hub.poll({"topic": quiet, "after": at})["events"], [])
        with Ws(self.hub, {"topic": [quiet, "never"], "after": at}) as ws:
            self.assertIn("heartbeat", ws.next())
            self.assertIn("heartbeat", ws.next())

    def test_reset_of_an_unknown_epoch_or_a_place_ahead(self):
        topic, at = self.busy(3)
        ahead = cursor(epoch(at[0]), seq_of(at[2]) + 1000)
        for place in ("zzz-7", ahead):
            page = self.hub.poll({"topic": topic, "after": place})
            self.assertEqual(page["events"][0]["gap"]["reason"], "reset")
            gap = page["events"][0]["gap"]
            self.assertEqual(gap["after"], place)
            self.assertEqual(data(page["events"][1:]), [0, 1, 2])
            again = self.hub.poll({"topic": topic, "after": gap["cursor"]})
            self.assertEqual([it["data"] for it in again["events"] if "data" in it], [0, 1, 2])
            with Sse(self.hub, {"topic": topic, "after": place, "format": "json"}) as stream:
                block = stream.event()
                self.assertEqual((block.id, block.json()["gap"]["reason"]), (gap["cursor"], "reset"))
                self.assertEqual([it.json()["data"] for it in stream.events(3)], [0, 1, 2])
            with Ws(self.hub, {"topic": topic, "after": place}) as ws:
                self.assertEqual(ws.event()["gap"]["reason"], "reset")
                self.assertEqual(data(ws.events(3)), [0, 1, 2])

    def test_reset_is_told_even_if_nothing_follows(self):
        for path in ("/poll", "/longpoll"):
            page = self.hub.get(path, {"topic": "never-published", "after": "zzz-7"}).json()
            (entry,) = page["events"]
            self.assertEqual(entry["gap"]["reason"], "reset")
            rest = self.hub.poll({"topic": "never-published", "after": page["cursor"]})
            self.assertFalse([it for it in rest["events"] if it.get("gap", {}).get("reason") == "reset"])

    def test_reset_by_if_none_match(self):
        page = self.hub.poll({"topic": "never-published"}, {"If-None-Match": '"zzz-7"'})
        self.assertEqual(page["events"][0]["gap"]["reason"], "reset")

    def test_overflow_close_of_a_poll_is_410_with_the_gap(self):
        topic, at = self.busy()
        for path in ("/poll", "/longpoll"):
            got = self.hub.get(path, {"topic": topic, "after": at[0], "overflow": "close"})
            self.assertEqual(got.status, 410)
            self.assertIn(f'"before":"{at[15]}"', got.body.decode())
            self.assertEqual(got.json()["gap"]["after"], at[0])
            got = self.hub.get(path, {"topic": topic, "after": at[14], "overflow": "close"})
            self.assertEqual((got.status, data(got.json()["events"])), (200, [15, 16, 17, 18, 19]))

    def test_overflow_close_of_sse_is_the_gap_then_the_end_then_204(self):
        topic, at = self.busy()
        with Sse(self.hub, {"topic": topic, "after": at[0], "overflow": "close"}) as stream:
            gap = stream.event()
            self.assertEqual((gap.event, gap.id), ("pushpull-gap", at[0]))
            self.assertIsNone(stream.event())
            place = stream.last_id
        got = self.hub.get("/sse", {"topic": topic, "overflow": "close"},
                           {"Last-Event-ID": place, "Accept": "text/event-stream"})
        self.assertEqual((got.status, got.body), (204, b""))
        with Sse(self.hub, {"topic": topic, "overflow": "close"}, {"Last-Event-ID": at[14]}) as stream:
            self.assertEqual(stream.event().data, "15")

    def test_overflow_close_of_a_websocket_is_the_gap_then_4409(self):
        topic, at = self.busy()
        with Ws(self.hub, {"topic": topic, "after": at[0], "overflow": "close"}) as ws:
            self.assertEqual(ws.event()["gap"]["before"], at[15])
            closed = ws.until("topic")
            self.assertIsInstance(closed, Close)
            self.assertEqual(closed.code, 4409)

    def test_overflow_latest_skips_to_the_newest(self):
        topic, at = self.busy()
        for source in (Sse, Ws):
            with self.subTest(source.__name__), source(
                    self.hub, {"topic": topic, "after": at[0], "overflow": "latest",
                               **({"format": "json"} if source is Sse else {})}) as it:
                first = it.event()
                gap = (first.json() if source is Sse else first)["gap"]
                self.assertEqual((gap["reason"], gap["after"]), ("skipped", at[0]))
                self.assertGreaterEqual(seq_of(gap["cursor"]), seq_of(at[-1]))
                new = self.hub.publish(topic, "new")
                event = it.event()
                event = event.json() if source is Sse else event
                self.assertEqual((event["data"], event["cursor"]), ("new", new))
                at.append(new)

    def test_gaps_are_counted_by_reason(self):
        topic, at = self.busy()
        self.hub.poll({"topic": topic, "after": at[0]})
        self.hub.poll({"topic": topic, "after": "zzz-0"})
        text = self.hub.get("/metrics").body.decode()
        for reason in ("evicted", "reset"):
            self.assertRegex(text, rf'pushpull_gaps_total\{{reason="{reason}"\}} [1-9]')


class Slow(Contract):
    """A reader that stops, while its topic runs on."""

    FLAGS = ("--retain-messages", "50", "--keep-alive", "0.5")
    BODY = json.dumps("x" * 100_000).encode()

    def flood(self, topic, count=400):
        with self.hub.link() as link:
            for _ in range(count):
                link.send(request_bytes(self.hub.address, "POST", f"/topics/{topic}",
                                        [("Content-Type", "application/json")], self.BODY))
                got = read_response(link)
                self.assertEqual(got.status, 201)
        return got.json()["cursor"]

    def stalled(self, source, **parameters):
        topic = self.topic()
        parameters = {"topic": topic, **parameters}
        if source is Sse:
            parameters["format"] = "json"
        stream = source(self.hub, parameters, receive_buffer=16384)
        self.addCleanup(stream.close)
        if source is Sse:
            stream.until(lambda it: it.last_id)
        else:
            stream.next()
        began = time.monotonic()
        last = self.flood(topic)
        self.assertLess(time.monotonic() - began, 15)
        return stream, topic, last

    def value(self, item):
        return item.json() if hasattr(item, "json") and not isinstance(item, dict) else item

    def test_lagged_covers_all_that_is_missing(self):
        for source in (Sse, Ws):
            with self.subTest(source.__name__):
                stream, topic, last = self.stalled(source)
                seqs, gaps, after = [], 0, None
                while not seqs or seqs[-1] < seq_of(last):
                    value = self.value(stream.event())
                    if "gap" in value:
                        gap = value["gap"]
                        self.assertEqual((gap["reason"], gap["cursor"]), ("lagged", gap["after"]))
                        gaps, after = gaps + 1, gap
                        self.assertGreaterEqual(seq_of(gap["after"]), seqs[-1] if seqs else 0)
                        continue
                    seq = seq_of(value["cursor"])
                    if seqs and seq_of(value["prev"]) != seqs[-1]:
                        self.assertIsNotNone(after, "a silent gap")
                        self.assertLessEqual(seq_of(after["after"]), seq_of(value["prev"]))
                        self.assertGreaterEqual(seq, seq_of(after["before"]))
                    after = None
                    seqs.append(seq)
                self.assertEqual(seqs, sorted(set(seqs)))
                self.assertGreaterEqual(gaps, 1)
                self.assertLess(len(seqs), 400)

    def test_lagged_with_overflow_close(self):
        stream, topic, last = self.stalled(Sse, overflow="close")
        values = []
        while (block := stream.event()) is not None:
            values.append(block.json())
        self.assertEqual(values[-1]["gap"]["reason"], "lagged")
        self.assertFalse(any("gap" in it for it in values[:-1]))
        self.assertEqual(stream.last_id, values[-1]["gap"]["cursor"])
        got = self.hub.get("/sse", {"topic": topic, "overflow": "close"}, {"Last-Event-ID": stream.last_id})
        self.assertEqual(got.status, 204)
        ws, topic, last = self.stalled(Ws, overflow="close")
        while not isinstance(item := ws.event(), Close) and "gap" not in item:
            pass
        self.assertEqual(item["gap"]["reason"], "lagged")
        closed = ws.event()
        self.assertEqual(closed.code, 4409)
        self.assertEqual(closed.option("cursor"), item["gap"]["cursor"])

    def test_overflow_latest_goes_on_at_the_newest(self):
        stream, topic, last = self.stalled(Sse, overflow="latest")
        while "gap" not in (value := stream.event().json()):
            pass
        self.assertEqual(value["gap"]["reason"], "skipped")
        newest = self.hub.publish(topic, "end")
        while (value := stream.event().json()).get("data") != "end":
            pass
        self.assertEqual(value["cursor"], newest)

    def test_a_raw_websocket_closes_with_4409(self):
        topic = self.topic()
        ws = Ws(self.hub, {"topic": topic}, protocol=None, receive_buffer=16384)
        self.addCleanup(ws.close)
        self.flood(topic)
        self.assertEqual(ws.closing().code, 4409)

    def test_a_stalled_reader_costs_the_others_nothing(self):
        topic = self.topic()
        with Sse(self.hub, {"topic": topic}, receive_buffer=16384) as stalled, \
                Sse(self.hub, {"topic": topic, "format": "json"}) as fast:
            stalled.until(lambda it: it.last_id)
            fast.until(lambda it: it.last_id)
            before = None
            for n in range(100):
                self.flood(topic, 3)
                for _ in range(3):
                    value = fast.event().json()
                    self.assertNotIn("gap", value)
                    self.assertEqual(value["prev"], before)
                    before = value["cursor"]


class Aged(Contract):
    """Everything is too old after a moment."""

    FLAGS = ("--retain-seconds", "0.2", "--keep-alive", "0.5")
    PATHS = ("/poll",)

    def test_before_is_head_plus_one_where_nothing_is_left(self):
        topic = self.topic()
        start = self.hub.publish(self.topic(), 0)
        at = [self.hub.publish(topic, n) for n in range(3)]
        time.sleep(0.6)

        def gone():
            page = self.hub.poll({"topic": topic, "after": start})
            return page if [list(it) for it in page["events"]] == [["gap"]] else None

        page = self.eventually(gone)
        gap = page["events"][0]["gap"]
        self.assertEqual((gap["reason"], gap["after"], gap["cursor"]), ("evicted", start, start))
        self.assertEqual(seq_of(gap["before"]), seq_of(at[-1]) + 1)
        self.assertGreaterEqual(seq_of(page["cursor"]), seq_of(at[-1]))
        self.assertEqual(self.hub.poll({"topic": topic, "after": page["cursor"]})["events"], [])

    def test_last_outlives_age(self):
        topic = self.topic()
        self.hub.publish(topic, "old")
        at = self.hub.publish(topic, "kept")
        time.sleep(0.5)
        self.hub.publish(self.topic(), 0)
        (event,) = self.hub.poll({"topic": topic, "start": "last"})["events"]
        self.assertEqual((event["data"], event["cursor"]), ("kept", at))


class Forgotten(Contract):
    """Two topics are on record: whose record was dropped is told a gap, never nothing."""

    FLAGS = ("--max-topics", "2")
    PATHS = ("/poll",)

    def test_a_dropped_topic_is_told_evicted(self):
        start = self.hub.publish("first", 0)
        lost = self.hub.publish("first", 1)
        for n in range(10):
            self.hub.publish(f"other{n}", n)
        for topics in ("first", ">"):
            page = self.hub.poll({"topic": topics, "after": start})
            self.assertEqual(page["events"][0]["gap"]["reason"], "evicted")
            self.assertGreater(seq_of(page["events"][0]["gap"]["before"]), seq_of(lost))


class Bytes(Contract):
    FLAGS = ("--retain-topic-bytes", "20000")
    PATHS = ("/poll",)

    def test_retention_by_bytes_of_a_topic(self):
        topic, quiet = self.topic(), self.topic()
        first = self.hub.publish(quiet, "q")
        at = [self.hub.publish(topic, "x" * 1000) for _ in range(100)]
        entries = self.hub.poll({"topic": topic, "after": first})["events"]
        self.assertEqual(entries[0]["gap"]["before"], entries[1]["cursor"])
        self.assertEqual([it["cursor"] for it in entries[1:]], at[-len(entries) + 1:])
        self.assertTrue(5 <= len(entries) - 1 <= 20)
        (kept,) = self.hub.poll({"topic": quiet, "start": "earliest"})["events"]
        self.assertEqual(kept["data"], "q")


class AllBytes(Contract):
    FLAGS = ("--retain-bytes", "100000")
    PATHS = ("/poll",)

    def test_retention_by_bytes_in_all(self):
        stem = self.topic()
        start = self.hub.head()
        at = [self.hub.publish(f"{stem}.{n}", "x" * 1000) for n in range(300)]
        entries, place = [], start
        while True:
            page = self.hub.poll({"topic": f"{stem}.*", "after": place, "limit": 1000})
            entries, place = entries + page["events"], page["cursor"]
            if not page["more"]:
                break
        self.assertEqual((entries[0]["gap"]["after"], entries[0]["gap"]["reason"]), (start, "evicted"))
        kept = [it["cursor"] for it in entries[1:]]
        self.assertEqual(kept, at[-len(kept):])
        self.assertEqual(entries[0]["gap"]["before"], kept[0])
        self.assertTrue(20 <= len(kept) <= 100, len(kept))


if __name__ == "__main__":
    unittest.main()
