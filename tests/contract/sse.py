"""A client of Server-Sent Events: the parser of a browser, over a socket."""

import json
import time

from wire import DEADLINE, Closed, Link, fields, query, read_chunk, read_head, request_bytes


class Block:
    """The fields of one SSE block: what stands between two blank lines."""

    def __init__(self):
        self.id = self.event = self.retry = None
        self.lines = None
        self.comments = []

    @property
    def data(self):
        return None if self.lines is None else "\n".join(self.lines)

    def empty(self):
        return self.id is None and self.event is None and self.retry is None and self.lines is None

    def json(self):
        return json.loads(self.data)

    def __repr__(self):
        return f"<block id={self.id} event={self.event} retry={self.retry} data={self.data!r} {self.comments}>"


class SseParser:
    """Bytes to blocks, by the WHATWG algorithm (HTML, section 9.2.6)."""

    def __init__(self):
        self.pending = bytearray()
        self.after_cr = self.begun = False
        self.block = Block()
        self.blocks = []
        self.last_id = ""
        self.retry = None
        self.comments = 0

    def feed(self, data):
        for byte in data:
            if byte == 0x0A and self.after_cr:
                self.after_cr = False
                continue
            self.after_cr = byte == 0x0D
            if byte in (0x0A, 0x0D):
                self.line(self.pending.decode("utf-8", "replace"))
                self.pending.clear()
            else:
                self.pending.append(byte)

    def line(self, line):
        if not self.begun:
            self.begun = True
            line = line.removeprefix("\ufeff")
        if line == "":
            self.blocks.append(self.block)
            self.block = Block()
            return
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        block = self.block
        if colon and not name:
            block.comments.append(value)
            self.comments += 1
        elif name == "data":
            block.lines = (block.lines or []) + [value]
        elif name == "event":
            block.event = value
        elif name == "id" and "\0" not in value:
            block.id = self.last_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            block.retry = self.retry = int(value)


class Sse:
    """An event stream. `last_id` is where a browser would resume."""

    def __init__(self, hub, parameters, headers=(), receive_buffer=None, path="/sse", status=200):
        self.link = Link(hub.address, hub.tls, receive_buffer)
        target = query(path, parameters) if not isinstance(parameters, str) else f"{path}?{parameters}"
        headers = [("Accept", "text/event-stream")] + fields(headers)
        self.link.send(request_bytes(hub.address, "GET", target, headers))
        self.response = read_head(self.link, time.monotonic() + DEADLINE)
        if self.response.status != status:
            raise AssertionError(f"{target}: {self.response.status}, {bytes(self.link.buffer)!r}")
        self.parser = SseParser()
        self.ended = False

    last_id = property(lambda self: self.parser.last_id)
    retry = property(lambda self: self.parser.retry)

    def read(self, until):
        length = self.response.header("content-length")
        data = read_chunk(self.link, until) if length is None else self.link.take(int(length), until)
        self.ended = not data or length is not None
        self.parser.feed(data)

    def block(self, timeout=DEADLINE):
        """The next block that has a field; `None` at a clean end of the body."""
        until = time.monotonic() + timeout
        while True:
            while self.parser.blocks:
                block = self.parser.blocks.pop(0)
                if not block.empty():
                    return block
            if self.ended:
                return None
            self.read(until)

    def event(self, timeout=DEADLINE):
        """The next block that a browser would dispatch (it has data); `None` at the end."""
        until = time.monotonic() + timeout
        while (block := self.block(until - time.monotonic())) and block.lines is None:
            pass
        return block

    def events(self, count, timeout=DEADLINE):
        return [self.event(timeout) for _ in range(count)]

    def until(self, condition, timeout=DEADLINE):
        """Reads on until `condition(self)` holds."""
        until = time.monotonic() + timeout
        while not condition(self):
            if self.ended:
                raise Closed("the body ended first")
            self.read(until)

    def close(self):
        self.link.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
