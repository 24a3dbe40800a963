"""GET /poll (sections 3 and 4)."""

import json
import time
import unittest

from hub import Contract, cursor, data, epoch, seq_of
from sse import Sse


class Poll(Contract):
    PATHS = ("/poll",)

    def test_an_answer_has_events_a_cursor_and_more(self):
        topic = self.topic()
        at = self.hub.publish(topic, {"px": 189.3}, key="AAPL", event="trade")
        got = self.hub.get("/poll", {"topic": topic, "start": "earliest"})
        self.assertEqual(got.status, 200)
        self.assertEqual(got.header("content-type"), "application/json")
        self.assertEqual(got.header("cache-control"), "no-store")
        page = got.json()
        self.assertEqual(set(page), {"events", "cursor", "more"})
        self.assertIs(page["more"], False)
        self.assertEqual(got.header("etag"), f'"{page["cursor"]}"')
        (event,) = page["events"]
        self.assertLess(abs(event.pop("time") - time.time() * 1000), 10_000)
        self.assertEqual(event, {"topic": topic, "cursor": at, "prev": None, "event": "trade", "key": "AAPL",
                                 "type": "application/json", "data": {"px": 189.3}})
        self.assertGreaterEqual(seq_of(page["cursor"]), seq_of(at))

    def test_with_no_place_it_tells_the_newest_and_goes_on_from_there(self):
        topic = self.topic()
        self.hub.publish(topic, 0)
        page = self.hub.poll({"topic": topic})
        self.assertEqual((page["events"], page["more"]), ([], False))
        self.assertCursor(page["cursor"])
        self.hub.publish(topic, 1)
        self.assertEqual(data(self.hub.poll({"topic": topic, "after": page["cursor"]})["events"]), [1])

    def test_the_cursor_moves_over_what_was_not_asked_for(self):
        topic = self.topic()
        at = self.hub.publish(topic, 0)
        other = self.hub.publish(self.topic(), 0)
        page = self.hub.poll({"topic": topic, "after": at})
        self.assertEqual(page["events"], [])
        self.assertGreaterEqual(seq_of(page["cursor"]), seq_of(other))

    def test_a_cut_answer_ends_at_its_last_event(self):
        topic = self.topic()
        at = self.hub.publish_all(topic, list(range(250)))
        seen, place, pages = [], None, 0
        while True:
            where = {"after": place} if place else {"start": "earliest"}
            page = self.hub.poll({"topic": topic, **where})
            seen += page["events"]
            place, pages = page["cursor"], pages + 1
            if not page["more"]:
                break
            self.assertEqual(len(page["events"]), 100)
            self.assertEqual(place, page["events"][-1]["cursor"])
        self.assertEqual(data(seen), list(range(250)))
        self.assertEqual([it["cursor"] for it in seen], at)
        self.assertEqual([it["prev"] for it in seen], [None, *at[:-1]])
        self.assertEqual(pages, 3)
        self.assertRising(seen)

    def test_limit(self):
        topic = self.topic()
        at = self.hub.publish_all(topic, list(range(1200)))
        for limit, count in ((1, 1), (7, 7), (1000, 1000)):
            page = self.hub.poll({"topic": topic, "start": "earliest", "limit": limit})
            self.assertEqual((len(page["events"]), page["more"]), (count, True))
            self.assertEqual(page["cursor"], at[count - 1])

    def test_limit_counts_over_topics(self):
        stem = self.topic()
        start = self.hub.head()
        for n in range(10):
            self.hub.publish(f"{stem}.{n % 3}", n)
        page = self.hub.poll({"topic": [f"{stem}.0", f"{stem}.2"], "after": start, "limit": 4})
        self.assertEqual(data(page["events"]), [0, 2, 3, 5])
        self.assertTrue(page["more"])
        rest = self.hub.poll({"topic": [f"{stem}.0", f"{stem}.2"], "after": page["cursor"]})
        self.assertEqual(data(rest["events"]), [6, 8, 9])

    def test_an_answer_is_cut_at_3_mib_but_has_an_event(self):
        topic = self.topic()
        for n in range(5):
            self.hub.publish(topic, bytes(1000_000), "application/octet-stream")
        seen, place = 0, "start=earliest"
        while True:
            got = self.hub.get("/poll", f"topic={topic}&{place}")
            page = got.json()
            self.assertLess(len(got.body), 4 * 1024 * 1024)
            self.assertGreaterEqual(len(page["events"]), 1)
            seen += len(page["events"])
            if not page["more"]:
                break
            self.assertEqual(page["cursor"], page["events"][-1]["cursor"])
            place = f"after={page['cursor']}"
        self.assertEqual(seen, 5)

    def test_304_with_the_place_where_nothing_is_new(self):
        topic = self.topic()
        self.hub.publish_all(self.topic(), list(range(100)))
        at = self.hub.publish(topic, 0)
        match = {"If-None-Match": f'"{at}"'}
        got = self.hub.get("/poll", {"topic": topic}, match)
        self.assertEqual((got.status, got.body), (304, b""))
        self.assertEqual(got.header("pushpull-cursor"), at)
        other = self.hub.publish(self.topic(), 0)
        for value in (f'"{at}"', f'W/"{at}"'):
            got = self.hub.get("/poll", {"topic": topic}, {"If-None-Match": value})
            self.assertEqual(got.status, 304)
            self.assertGreaterEqual(seq_of(got.header("pushpull-cursor")), seq_of(other))
        self.hub.publish(topic, 1)
        got = self.hub.get("/poll", {"topic": topic}, match)
        self.assertEqual((got.status, data(got.json()["events"])), (200, [1]))
        got = self.hub.get("/poll", {"topic": topic, "after": at})
        self.assertEqual(got.status, 200)

    def test_a_place_by_after_never_answers_304(self):
        topic = self.topic()
        at = self.hub.publish(topic, 0)
        self.assertEqual(self.hub.poll({"topic": topic, "after": at})["events"], [])

    def test_no_cursor_lies_before_the_one_asked(self):
        at = self.hub.publish(self.topic(), 0)
        for topic in ("never-published", ">", "*.nothing"):
            page = self.hub.poll({"topic": topic, "after": at})
            self.assertGreaterEqual(seq_of(page["cursor"]), seq_of(at))

    def test_each_place_gives_the_same_to_each_reader(self):
        topic = self.topic()
        at = self.hub.publish_all(topic, list(range(20)))
        for start in range(20):
            answers = {self.hub.get("/poll", {"topic": topic, "after": at[start], "limit": 5}).body for _ in range(2)}
            self.assertEqual(len(answers), 1)
            self.assertEqual(data(json.loads(answers.pop())["events"]), list(range(start + 1, min(start + 6, 20))))

    def test_a_cursor_between_events_of_the_topic_is_as_good(self):
        topic, other = self.topic(), self.topic()
        self.hub.publish(topic, 0)
        between = self.hub.publish(other, 0)
        self.hub.publish(topic, 1)
        self.assertEqual(data(self.hub.poll({"topic": topic, "after": between})["events"]), [1])
        far = cursor(epoch(between), 0)
        self.assertEqual(data(self.hub.poll({"topic": topic, "after": far})["events"]), [0, 1])

    def test_an_event_that_matches_several_entries_comes_once(self):
        stem = self.topic()
        start = self.hub.head()
        self.hub.publish(f"{stem}.a", 1)
        got = self.hub.poll({"topic": [f"{stem}.a", f"{stem}.*", f"{stem}.>", ">"], "after": start})
        self.assertEqual(data(got["events"]), [1])


class Quiet(Contract):
    """A quarter of the retained range, where the whole is small."""

    PATHS = ("/poll",)
    FLAGS = ("--retain-messages", "100")

    def test_no_poller_is_pinned_to_an_old_place(self):
        topic, busy = self.topic(), self.topic()
        self.hub.publish_all(busy, list(range(150)))
        place = self.hub.publish(topic, 0)
        statuses = set()
        for n in range(200):
            self.hub.publish(busy, n)
            got = self.hub.get("/poll", {"topic": topic}, {"If-None-Match": f'"{place}"'})
            statuses.add(got.status)
            if got.status == 200:
                page = got.json()
                self.assertEqual(page["events"], [])
                self.assertGreater(seq_of(page["cursor"]), seq_of(place))
                place = page["cursor"]
            else:
                self.assertEqual(got.status, 304)
            self.assertLessEqual(seq_of(self.hub.publish(busy, n)) - seq_of(place), 150)
        self.assertEqual(statuses, {200, 304})
        with Sse(self.hub, {"topic": topic, "after": place, "format": "json"}) as stream:
            self.hub.publish(topic, 1)
            self.assertEqual(stream.event().json()["data"], 1)


if __name__ == "__main__":
    unittest.main()
