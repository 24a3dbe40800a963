"""/metrics and /health (section 7)."""

import json
import re
import unittest

from hub import Contract
from sse import Sse
from wire import Ws

TEXT = "text/plain"
OPEN = "application/openmetrics-text"
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{([a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"(?:,[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*")*)?\})? (\S+)( \S+)?\Z')
FAMILIES = {
    "pushpull_connections": "gauge", "pushpull_published": "counter", "pushpull_delivered": "counter",
    "pushpull_gaps": "counter", "pushpull_rejected": "counter", "pushpull_conflated": "counter",
    "pushpull_retained_events": "gauge", "pushpull_retained_bytes": "gauge", "pushpull_topics": "gauge",
    "pushpull_engine_up": "gauge", "pushpull_publish_seconds": "histogram", "process_cpu_seconds": "counter",
    "process_resident_memory_bytes": "gauge", "process_open_fds": "gauge", "process_max_fds": "gauge",
}


def parse(text):
    """Samples by name and labels; types by family. Raises on what is no exposition format."""
    samples, types = {}, {}
    lines = text.split("\n")
    assert lines.pop() == "", "the last line must end with a line feed"
    for line in lines:
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, f"two types of {name}"
            types[name] = kind
        elif not line.startswith("#"):
            match = SAMPLE.match(line)
            assert match, line
            key = (match[1], match[3] or "")
            assert key not in samples, f"{key} twice"
            samples[key] = float(match[4])
    return samples, types


class Metrics(Contract):
    def metrics(self, accept=None):
        got = self.hub.get("/metrics", headers={"Accept": accept} if accept else {})
        self.assertEqual(got.status, 200)
        return got

    def test_the_text_format(self):
        got = self.metrics()
        self.assertTrue(got.header("content-type").startswith("text/plain; version=0.0.4"), got.headers)
        samples, types = parse(got.body.decode())
        names = {name for name, _ in samples}
        for family, kind in FAMILIES.items():
            name = family + "_total" if kind == "counter" else family
            self.assertEqual(types.get(name), kind, name)
            self.assertIn(name + "_count" if kind == "histogram" else name, names)
        self.assertIn("pushpull_build_info", names)

    def test_openmetrics(self):
        got = self.metrics("application/openmetrics-text; version=1.0.0")
        self.assertTrue(got.header("content-type").startswith("application/openmetrics-text; version=1.0.0"), got.headers)
        text = got.body.decode()
        self.assertTrue(text.endswith("# EOF\n"))
        samples, types = parse(text)
        names = {name for name, _ in samples}
        for family, kind in FAMILIES.items():
            self.assertEqual(types.get(family), kind, family)
            self.assertIn({"counter": family + "_total", "histogram": family + "_count"}.get(kind, family), names)
        self.assertTrue(types.get("pushpull_build") == "info" or types.get("pushpull_build_info") == "gauge")

    def test_accept_with_q_values(self):
        for accept, kind in (
            (None, TEXT), ("*/*", TEXT), ("text/plain", TEXT), ("text/*", TEXT), (OPEN, OPEN), ("text/html", TEXT),
            (f"{OPEN};version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4", OPEN), ("application/*", OPEN),
            (f"{OPEN};q=0.4, text/plain;q=0.5", TEXT), (f"{OPEN};q=0, */*", TEXT), (f"{OPEN};q=0", TEXT),
            (f"text/plain;q=0.3, {OPEN};q=0.31", OPEN),
            ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
             "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPEN),
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", TEXT), (f"{OPEN};Q=0.9, text/plain;Q=0.1", OPEN),
        ):
            with self.subTest(accept=accept):
                self.assertEqual(self.metrics(accept).header("content-type").split(";")[0], kind)

    def value(self, name, labels=""):
        return parse(self.metrics().body.decode())[0][(name, labels)]

    def test_values(self):
        topic = self.topic()
        before = parse(self.metrics().body.decode())[0]
        with Sse(self.hub, {"topic": topic}) as stream:
            stream.until(lambda it: it.last_id)
            for n in range(5):
                self.hub.publish(topic, n)
            stream.events(5)
            after = parse(self.metrics().body.decode())[0]
            grown = lambda name, labels="": after[(name, labels)] - before[(name, labels)]
            self.assertEqual(grown("pushpull_published_total"), 5)
            self.assertEqual(grown("pushpull_publish_seconds_count"), 5)
            self.assertEqual(grown("pushpull_retained_events"), 5)
            self.assertEqual(grown("pushpull_topics"), 1)
            self.assertGreater(grown("pushpull_retained_bytes"), 0)
            self.assertEqual(grown("pushpull_delivered_total", 'transport="sse"'), 5)
            self.assertEqual(after[("pushpull_connections", 'transport="sse"')], 1)
            self.assertEqual(after[("pushpull_engine_up", "")], 1)
        self.eventually(lambda: self.value("pushpull_connections", 'transport="sse"') == 0)

    def test_websockets_are_counted(self):
        topic = self.topic()
        with Ws(self.hub, {"topic": topic}) as ws, Ws(self.hub, {"topic": topic}, protocol=None) as raw:
            ws.next()
            before = self.value("pushpull_delivered_total", 'transport="ws"')
            self.assertEqual(self.value("pushpull_connections", 'transport="ws"'), 2)
            self.hub.publish(topic, 1)
            ws.event(), raw.message()
            self.eventually(lambda: self.value("pushpull_delivered_total", 'transport="ws"') == before + 2)
        self.eventually(lambda: self.value("pushpull_connections", 'transport="ws"') == 0)

    def test_polls_are_counted(self):
        topic = self.topic()
        self.hub.publish(topic, 1)
        for path, name in (("/poll", "poll"), ("/longpoll", "longpoll")):
            before = self.value("pushpull_delivered_total", f'transport="{name}"')
            self.hub.get(path, {"topic": topic, "start": "earliest"})
            self.assertEqual(self.value("pushpull_delivered_total", f'transport="{name}"'), before + 1)

    def test_the_histogram_is_cumulative(self):
        self.hub.publish(self.topic(), 1)
        samples, _ = parse(self.metrics().body.decode())
        buckets = [(float(labels[4:-1]), value) for (name, labels), value in samples.items()
                   if name == "pushpull_publish_seconds_bucket"]
        self.assertEqual(buckets, sorted(buckets))
        self.assertEqual([value for _, value in buckets], sorted(value for _, value in buckets))
        self.assertEqual(buckets[-1], (float("inf"), samples[("pushpull_publish_seconds_count", "")]))

    def test_never_a_topic_client_or_cursor_as_a_label(self):
        topic = self.topic("secrettopic")
        at = self.hub.publish(topic, 1, key="secretkey")
        self.hub.poll({"topic": topic, "after": "zzz-1"}) if self.hub.serves("/poll") else None
        samples, _ = parse(self.metrics().body.decode())
        text = self.metrics().body.decode()
        for word in (topic, "secretkey", at, "127.0.0.1"):
            self.assertNotIn(word, text)
        names = {it.split("=")[0] for _, labels in samples for it in labels.split(",") if it}
        self.assertLessEqual(names, {"transport", "reason", "le", "version", "revision", "rustc", "engine"})

    def test_health(self):
        got = self.hub.get("/health")
        self.assertEqual(got.status, 200)
        body = got.json()
        self.assertIn("status", body)
        self.assertIn("engine", body)
        self.assertIn("memory", json.dumps(body["engine"]))
        self.assertEqual(self.hub.get("/health", "engine").status, 200)
        self.assertEqual(self.hub.get("/health/live").status, 200)


if __name__ == "__main__":
    unittest.main()
