"""GET /longpoll (section 4)."""

import threading
import time
import unittest

from hub import Contract, Hub, data, seq_of
from wire import query, read_response, request_bytes


class Waiting:
    """A request that waits for its answer on a thread's behalf: sent, to be read later."""

    def __init__(self, hub, parameters, headers=()):
        self.link = hub.link()
        self.sent = time.monotonic()
        self.link.send(request_bytes(hub.address, "GET", query("/longpoll", parameters), headers))

    def answer(self, timeout=10):
        response = read_response(self.link, timeout=timeout)
        self.took = time.monotonic() - self.sent
        self.link.close()
        return response


class Longpoll(Contract):
    PATHS = ("/longpoll",)

    def waiting(self, count=1):
        """Waits until the hub itself counts `count` waiting polls."""
        line = f'pushpull_connections{{transport="longpoll"}} {count}'
        self.eventually(lambda: line in self.hub.get("/metrics").body.decode())

    def test_answers_at_once_with_all_there_is_up_to_limit(self):
        topic = self.topic()
        at = self.hub.publish_all(topic, list(range(150)))
        poll = Waiting(self.hub, {"topic": topic, "after": at[9], "wait": 30})
        got = poll.answer()
        self.assertLess(poll.took, 5)
        page = got.json()
        self.assertEqual((got.status, data(page["events"])), (200, list(range(10, 110))))
        self.assertEqual((page["cursor"], page["more"]), (at[109], True))
        self.assertEqual(got.header("etag"), f'"{page["cursor"]}"')
        self.assertEqual(got.header("cache-control"), "no-store")

    def test_waits_for_the_first_event(self):
        topic = self.topic()
        at = self.hub.publish(topic, 0)
        poll = Waiting(self.hub, {"topic": topic, "after": at, "wait": 30})
        self.waiting()
        self.hub.publish(self.topic(), "of another topic")
        one = self.hub.publish(topic, 1)
        got = poll.answer()
        self.assertEqual((got.status, data(got.json()["events"])), (200, [1]))
        self.assertGreaterEqual(seq_of(got.json()["cursor"]), seq_of(one))

    def test_with_no_place_it_counts_from_the_moment_it_arrived(self):
        topic = self.topic()
        self.hub.publish(topic, "before")
        poll = Waiting(self.hub, {"topic": topic, "wait": 30})
        self.waiting()
        self.hub.publish(topic, "after")
        self.assertEqual(data(poll.answer().json()["events"]), ["after"])

    def test_the_end_of_the_wait(self):
        topic = self.topic()
        at = self.hub.publish(topic, 0)
        polls = [
            (Waiting(self.hub, {"topic": topic, "wait": 1}), 200),
            (Waiting(self.hub, {"topic": topic, "wait": 1, "after": at}), 200),
            (Waiting(self.hub, {"topic": topic, "wait": 1}, [("If-None-Match", f'"{at}"')]), 304),
            (Waiting(self.hub, {"topic": topic}, [("Prefer", "wait=1")]), 200),
        ]
        for poll, status in polls:
            got = poll.answer()
            self.assertEqual(got.status, status)
            self.assertTrue(0.9 <= poll.took < 4, poll.took)
            if status == 200:
                page = got.json()
                self.assertEqual((page["events"], page["more"]), ([], False))
                self.assertGreaterEqual(seq_of(page["cursor"]), seq_of(at))
            else:
                self.assertEqual(got.body, b"")
                self.assertGreaterEqual(seq_of(got.header("pushpull-cursor")), seq_of(at))

    def test_prefer_is_answered_where_it_is_applied(self):
        topic = self.topic()
        at = self.hub.publish(topic, 0)
        self.hub.publish(topic, 1)
        for value in ("wait=7", "Wait=7", "respond-async, wait=7", "wait=7; x=y"):
            got = self.hub.get("/longpoll", {"topic": topic, "after": at}, {"Prefer": value})
            self.assertEqual((got.status, got.header("preference-applied")), (200, "wait=7"), value)
        got = self.hub.get("/longpoll", {"topic": topic, "after": at, "wait": 5}, {"Prefer": "wait=7"})
        self.assertEqual((got.status, got.header("preference-applied")), (200, None))
        got = self.hub.get("/longpoll", {"topic": topic, "after": at}, {"Prefer": "respond-async"})
        self.assertEqual((got.status, got.header("preference-applied")), (200, None))

    def test_where_wait_is_given_prefer_does_not_count(self):
        poll = Waiting(self.hub, {"topic": self.topic(), "wait": 0}, [("Prefer", "wait=30")])
        self.assertEqual(poll.answer().status, 200)
        self.assertLess(poll.took, 5)

    def test_wait_0_answers_at_once(self):
        poll = Waiting(self.hub, {"topic": self.topic(), "wait": 0})
        self.assertEqual(poll.answer().json()["events"], [])
        self.assertLess(poll.took, 5)

    def test_nothing_falls_between_two_polls(self):
        topic = self.topic()
        start, seen = self.hub.head(), []

        def produce():
            for n in range(100):
                self.hub.publish(topic, n)

        producer = threading.Thread(target=produce)
        producer.start()
        place = start
        while len(seen) < 100:
            page = self.hub.get("/longpoll", {"topic": topic, "after": place, "wait": 5}).json()
            self.assertGreaterEqual(seq_of(page["cursor"]), seq_of(place))
            seen, place = seen + page["events"], page["cursor"]
        producer.join()
        self.assertEqual(data(seen), list(range(100)))
        self.assertRising(seen)

    def test_start_earliest_and_last_answer_at_once(self):
        topic = self.topic()
        for n in range(3):
            self.hub.publish(topic, n)
        for start, expected in (("earliest", [0, 1, 2]), ("last", [2])):
            poll = Waiting(self.hub, {"topic": topic, "start": start, "wait": 30})
            self.assertEqual(data(poll.answer().json()["events"]), expected)

    def test_a_gap_is_answered_at_once(self):
        poll = Waiting(self.hub, {"topic": self.topic(), "after": "zzz-1", "wait": 30})
        (entry,) = poll.answer().json()["events"]
        self.assertEqual(entry["gap"]["reason"], "reset")

    def test_a_client_that_leaves_is_forgotten(self):
        poll = Waiting(self.hub, {"topic": self.topic(), "wait": 60})
        self.waiting()
        poll.link.close()
        self.waiting(0)


class Full(Contract):
    PATHS = ("/longpoll",)
    FLAGS = ("--max-connections", "1")

    def test_waiting_polls_count_as_connections(self):
        poll = Waiting(self.hub, {"topic": "t", "wait": 60})
        self.eventually(lambda: self.hub.get("/health").status == 503)
        got = self.hub.get("/longpoll", {"topic": "t", "wait": 1})
        self.assertProblem(got, 503)
        self.assertIsNotNone(got.header("retry-after"))
        self.hub.publish("t", 1)
        self.assertEqual(data(poll.answer().json()["events"]), [1])
        self.eventually(lambda: self.hub.get("/health").status == 200)


class Drain(Contract):
    PATHS = ("/longpoll",)

    def test_waiting_polls_are_answered_at_once(self):
        hub = Hub(drain=5)
        at = hub.publish("t", 0)
        polls = [
            (Waiting(hub, {"topic": "t", "wait": 60}), 200),
            (Waiting(hub, {"topic": "t", "wait": 60, "after": at}), 200),
            (Waiting(hub, {"topic": "t", "wait": 60}, [("If-None-Match", f'"{at}"')]), 304),
        ]
        self.eventually(lambda: b'transport="longpoll"} 3' in hub.get("/metrics").body)
        hub.terminate()
        for poll, status in polls:
            got = poll.answer()
            self.assertIn(got.status, (200, status))
            place = got.json()["cursor"] if got.status == 200 else got.header("pushpull-cursor")
            self.assertEqual(place, at)
        hub.wait(5)


if __name__ == "__main__":
    unittest.main()
