"""One cursor for all transports: read some by one, go on by each other (the head of PROTOCOL.md)."""

import random
import socket
import struct
import threading
import unittest

from hub import Contract, data, epoch, seq_of
from sse import Sse
from wire import Ws

COUNT = 60


class Reader:
    """Reads `count` events after `place` by one transport; and the place it was told."""

    def __init__(self, hub):
        self.hub = hub

    def poll(self, topics, place, count):
        page = self.hub.poll({"topic": topics, "after": place, "limit": count})
        return page["events"], page["cursor"]

    def longpoll(self, topics, place, count):
        page = self.hub.poll({"topic": topics, "limit": count}, {"If-None-Match": f'"{place}"'}, path="/longpoll")
        return page["events"], page["cursor"]

    def sse(self, topics, place, count):
        with Sse(self.hub, {"topic": topics, "format": "json"}, {"Last-Event-ID": place}) as stream:
            blocks = stream.events(count)
            return [it.json() for it in blocks], blocks[-1].id

    def ws(self, topics, place, count):
        with Ws(self.hub, {"topic": topics, "after": place, "window": count}) as ws:
            events = ws.events(count)
            return events, events[-1]["cursor"]

    def deflated(self, topics, place, count):
        with Ws(self.hub, extensions="permessage-deflate") as ws:
            ws.tell({"subscribe": {"topics": topics, "after": place, "window": count}})
            events = ws.events(count)
            return events, events[-1]["cursor"]


WAYS = ("poll", "longpoll", "sse", "ws", "deflated")


class Cross(Contract):
    PATHS = ("/ws", "/sse", "/poll", "/longpoll")

    def sent(self):
        """Events over three topics with strangers between; the start and what must be seen."""
        stem = self.topic()
        start, expected = self.hub.head(), []
        for n in range(COUNT):
            kind, body = (("application/json", b'{"n" :%d}' % n), ("text/plain", b"n\r\n%d" % n),
                          ("application/octet-stream", bytes([n, 255])))[n % 3]
            expected.append(self.hub.publish(f"{stem}.{n % 4}", body, kind, key="k" if n % 2 else None))
            if n % 5 == 0:
                self.hub.publish(self.topic("stranger"), n)
        return [f"{stem}.*"], start, expected

    def test_each_pair_of_transports(self):
        topics, start, expected = self.sent()
        reader = Reader(self.hub)
        whole, _ = reader.poll(topics, start, COUNT)
        self.assertEqual([it["cursor"] for it in whole], expected)
        for first in WAYS:
            for second in WAYS:
                with self.subTest(first=first, second=second):
                    head, place = getattr(reader, first)(topics, start, 25)
                    tail, _ = getattr(reader, second)(topics, place, COUNT - 25)
                    self.assertEqual(head + tail, whole)

    def test_a_random_walk(self):
        topics, start, expected = self.sent()
        reader, choice = Reader(self.hub), random.Random(7)
        for _ in range(10):
            seen, place = [], start
            while len(seen) < COUNT:
                count = min(choice.randint(1, 9), COUNT - len(seen))
                events, place = getattr(reader, choice.choice(WAYS))(topics, place, count)
                seen += events
            self.assertEqual([it["cursor"] for it in seen], expected)
            self.assertRising(seen)

    def test_places_told_without_events_are_as_good(self):
        """A heartbeat's, a keep-alive's, a 304's and an answer's cursor."""
        topic = self.topic()
        self.hub.publish_all(self.topic(), list(range(200)))
        start = self.hub.publish(topic, 0)
        last = self.hub.publish(self.topic(), 0)
        places = [
            self.hub.poll({"topic": topic, "after": start})["cursor"],
            self.hub.get("/poll", {"topic": topic}, {"If-None-Match": f'"{start}"'}).header("pushpull-cursor"),
            self.hub.get("/longpoll", {"topic": topic, "after": start, "wait": 1}).json()["cursor"],
        ]
        with Sse(self.hub, {"topic": topic}, {"Last-Event-ID": start}) as stream, Ws(self.hub, {"topic": topic, "after": start}) as ws:
            stream.until(lambda it: seq_of(it.last_id or start) >= seq_of(last))
            places.append(stream.last_id)
            ws.next()
            places.append(ws.until("heartbeat")["heartbeat"]["cursor"])
        for place in places:
            self.assertEqual((epoch(place), seq_of(place) >= seq_of(last)), (epoch(last), True))
        new = self.hub.publish(topic, "new")
        for place in places:
            for way in WAYS:
                events, _ = getattr(Reader(self.hub), way)([topic], place, 1)
                self.assertEqual((data(events), events[0]["cursor"]), (["new"], new))

    def test_all_show_the_same_live(self):
        topic = self.topic()
        with Sse(self.hub, {"topic": topic, "format": "json"}) as stream, Ws(self.hub, {"topic": topic}) as ws, \
                Ws(self.hub, {"topic": topic}, protocol=None) as raw, Sse(self.hub, {"topic": topic}) as plain:
            stream.until(lambda it: it.last_id)
            plain.until(lambda it: it.last_id)
            ws.next()
            start = stream.last_id
            for n in range(20):
                self.hub.publish(topic, {"n": n})
            whole = self.hub.poll({"topic": topic, "after": start})["events"]
            self.assertEqual([it.json() for it in stream.events(20)], whole)
            self.assertEqual(ws.events(20), whole)
            texts = ['{"n": %d}' % n for n in range(20)]
            self.assertEqual([raw.message() for _ in range(20)], texts)
            self.assertEqual([it.data for it in plain.events(20)], texts)

    def cut(self, stream):
        """Ends a connection by RST, in the midst of whatever it does."""
        stream.link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()

    def sse_place(self, stream, seen):
        block = stream.block()
        if block.lines is not None:
            seen.append(block.json())
        return block.id

    def ws_place(self, ws, seen):
        item = ws.next()
        if "topic" in item:
            seen.append(item)
            return item["cursor"]
        return item["heartbeat"]["cursor"]

    def test_connections_cut_under_load_lose_and_repeat_nothing(self):
        for source, read in ((Sse, self.sse_place), (Ws, self.ws_place)):
            with self.subTest(source.__name__):
                stem, choice = self.topic(), random.Random(11)
                start = place = self.hub.head()
                acknowledged = []

                def produce(leaf):
                    for n in range(150):
                        acknowledged.append(self.hub.publish(f"{stem}.{leaf}", {"n": n}))

                producers = [threading.Thread(target=produce, args=(leaf,)) for leaf in "abc"]
                for producer in producers:
                    producer.start()
                seen, cuts = [], 0
                while len(seen) < 450:
                    stream = source(self.hub, {"topic": f"{stem}.*", "after": place})
                    for _ in range(choice.randint(1, 25)):
                        place = read(stream, seen) or place
                        if len(seen) == 450:
                            break
                    self.cut(stream)
                    cuts += 1
                for producer in producers:
                    producer.join()
                self.assertGreater(cuts, 10)
                self.assertEqual([it["cursor"] for it in seen], sorted(acknowledged, key=seq_of))
                whole = self.hub.poll({"topic": f"{stem}.*", "after": start, "limit": 1000})["events"]
                self.assertEqual(seen, whole)
                for leaf in "abc":
                    events = [it for it in seen if it["topic"] == f"{stem}.{leaf}"]
                    self.assertEqual([it["data"]["n"] for it in events], list(range(150)))
                    self.assertEqual([it["prev"] for it in events], [None] + [it["cursor"] for it in events[:-1]])


if __name__ == "__main__":
    unittest.main()
