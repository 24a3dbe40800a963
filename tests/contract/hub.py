"""The standalone hub as a fixture, and the assertions that many checks share."""

import ctypes
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from sse import Sse
from wire import DEADLINE, Link, Response, Ws, fields, query, read_response, request_bytes, upgrade_headers

BINARY = os.environ.get("PUSHPULL_HUB", "")
CURSOR = re.compile(r"[0-9a-z]{1,13}-(0|[1-9][0-9]{0,19})\Z")


LIBC = ctypes.CDLL(None)
SET_PARENT_DEATH_SIGNAL = 1


def die_with_parent():
    """A suite that is killed leaves no hub behind (prctl, Linux)."""
    LIBC.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


class Hub:
    """A running hub; `stop` ends it and asserts that it went in order."""

    def __init__(self, *flags, tls=None, drain=5):
        if not os.path.exists(BINARY):
            raise AssertionError(f"PUSHPULL_HUB names no hub: {BINARY!r}")
        self.tls, self.drain = tls, drain
        self.errors = tempfile.TemporaryFile()
        command = [BINARY, "--listen", "127.0.0.1:0", "--drain", str(drain), *map(str, flags)]
        environment = {**os.environ, "RUST_BACKTRACE": "1", "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.errors, env=environment, preexec_fn=die_with_parent)
        line = self.first_line()
        match = re.fullmatch(r"listening on (https?)://127\.0\.0\.1:([0-9]+)\n", line)
        if not match or (match[1] == "https") != bool(tls):
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"first line {line!r}, then {self.log()}")
        self.address = ("127.0.0.1", int(match[2]))
        self.authority = f"127.0.0.1:{match[2]}"

    def first_line(self):
        lines = []
        reader = threading.Thread(target=lambda: lines.append(self.process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(DEADLINE)
        return lines[0].decode() if lines else ""

    def log(self):
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace")

    def terminate(self, with_signal=signal.SIGTERM):
        self.process.send_signal(with_signal)

    def wait(self, timeout):
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the hub did not exit in {timeout} s: {self.log()}") from None
        rest = self.process.stdout.read()
        self.process.stdout.close()
        log = self.log()
        self.errors.close()
        if code != 0 or "panicked" in log or rest:
            raise AssertionError(f"exit {code}, more output {rest!r}, log: {log}")

    def stop(self):
        if self.process.returncode is None:
            self.terminate()
            self.wait(self.drain + 3)

    def link(self, **options):
        return Link(self.address, self.tls, **options)

    def ask(self, method, path, parameters=(), headers=(), body=None, timeout=DEADLINE):
        """One request on a connection of its own."""
        target = query(path, parameters) if not isinstance(parameters, str) else f"{path}?{parameters}"
        with self.link() as link:
            link.send(request_bytes(self.address, method, target, fields(headers), body))
            return read_response(link, method, timeout)

    def get(self, path, parameters=(), headers=(), timeout=DEADLINE):
        return self.ask("GET", path, parameters, headers, timeout=timeout)

    def post(self, topic, body, kind="application/json", headers=(), parameters=()):
        """The answer to a publish."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        lines = fields(headers)
        if kind is not None:
            lines.append(("Content-Type", kind))
        return self.ask("POST", f"/topics/{topic}", parameters, lines, body)

    def publish(self, topic, body, kind="application/json", key=None, event=None):
        """Publishes; its cursor."""
        lines = [("Pushpull-Key", key)] if key else []
        lines += [("Pushpull-Event", event)] if event else []
        response = self.post(topic, body, kind, lines)
        if response.status != 201:
            raise AssertionError(response)
        return response.json()["cursor"]

    def publish_all(self, topic, values):
        """Publishes the values as one batch; the cursors, by the rule that seqs are counted up."""
        body = b"\n".join(json.dumps(value).encode() for value in values)
        response = self.post(topic, body, "application/x-ndjson", parameters={"batch": "ndjson"})
        if response.status != 201:
            raise AssertionError(response)
        first, last = response.json()["first"], response.json()["last"]
        return [cursor(epoch(first), seq) for seq in range(seq_of(first), seq_of(last) + 1)]

    def poll(self, parameters, headers=(), path="/poll"):
        response = self.get(path, parameters, headers)
        if response.status != 200:
            raise AssertionError(response)
        return response.json()

    def head(self):
        """The broker's newest place, by a stream's first id."""
        with Sse(self, {"topic": "head-of-all"}) as stream:
            stream.until(lambda it: it.last_id)
            return stream.last_id

    def upgrade(self, parameters=(), protocol="pushpull.v1.json", headers=()):
        """The answer to a WebSocket handshake."""
        return self.get("/ws", parameters, upgrade_headers(protocol, headers=headers))

    def serves(self, path):
        return self.get(path).status not in (404, 501)


def epoch(text):
    return text.rpartition("-")[0]


def seq_of(text):
    return int(text.rpartition("-")[2])


def cursor(name, seq):
    return f"{name}-{seq}"


class Contract(unittest.TestCase):
    """A case over the hub of its module; `FLAGS` on a class gives it one of its own."""

    maxDiff = None
    FLAGS = ("--keep-alive", "0.5")
    PATHS = ()
    hub: Hub

    @classmethod
    def setUpClass(cls):
        cls.hub = Hub(*cls.FLAGS)
        missing = [path for path in cls.PATHS if not cls.hub.serves(path)]
        if missing and not os.environ.get("PUSHPULL_CONTRACT_ALL"):
            cls.hub.stop()
            raise unittest.SkipTest(f"the hub does not serve {missing}")

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop()

    topics = 0

    def topic(self, stem="t"):
        """A topic that no other check uses."""
        Contract.topics += 1
        return f"{stem}{Contract.topics}"

    def assertCursor(self, text):
        self.assertIsInstance(text, str)
        self.assertRegex(text, CURSOR)
        self.assertLess(int(epoch(text), 36), 2**64)
        self.assertLess(seq_of(text), 2**64)
        return text

    def assertProblem(self, response: Response, status, parameter=None, outcome=None):
        self.assertEqual(response.status, status, response)
        self.assertEqual((response.header("content-type") or "").split(";")[0], "application/problem+json", response)
        problem = response.json()
        self.assertProblemBody(problem, status)
        if parameter:
            names = parameter if isinstance(parameter, (tuple, set)) else (parameter,)
            self.assertIn(problem.get("parameter"), names, problem)
        if outcome:
            self.assertEqual(problem.get("outcome"), outcome, problem)
        return problem

    def assertProblemBody(self, problem, status):
        self.assertEqual(problem["status"], status, problem)
        for name in ("type", "title", "detail"):
            self.assertIsInstance(problem.get(name), str, problem)
            self.assertTrue(problem[name], problem)

    def assertRising(self, events):
        """One epoch, rising seq; `prev` never lies about what was seen of its topic."""
        cursors = [event["cursor"] for event in events]
        self.assertEqual(len({epoch(it) for it in cursors} | {""}), 2 if cursors else 1, cursors)
        seqs = [seq_of(it) for it in cursors]
        self.assertEqual(seqs, sorted(set(seqs)))

    def eventually(self, condition, timeout=DEADLINE):
        """Waits until `condition()` is true; its value."""
        until = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > until:
                self.fail("the condition did not come about in time")
            time.sleep(0.02)
        return value


def data(events):
    """The payloads of JSON events."""
    return [event["data"] for event in events]


__all__ = ["CURSOR", "Contract", "Hub", "Link", "Sse", "Ws", "cursor", "data", "epoch", "seq_of"]
