"""Plain clients for the wire contract: HTTP/1.1 over a socket, and WebSocket.

They are strict where a client may be: a server's frame that is masked, a chunk without its end, or a head
that is no HTTP raises at once. Every wait has a deadline.
"""

import base64
import hashlib
import json
import os
import socket
import struct
import time
import zlib
from urllib.parse import quote

DEADLINE = 10.0


class Closed(Exception):
    """The peer closed the connection where more was due."""


class Link:
    """A socket with a read buffer."""

    def __init__(self, address, tls=None, receive_buffer=None):
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(DEADLINE)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = tls.wrap_socket(sock, server_hostname="localhost") if tls else sock
        self.buffer = bytearray()
        self.address = address

    def send(self, data):
        self.sock.settimeout(DEADLINE)
        self.sock.sendall(data)

    def fill(self, until):
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came before the deadline")
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(65536)
        except ConnectionError as error:
            raise Closed(str(error)) from error
        if not data:
            raise Closed("end of stream")
        self.buffer += data

    def take(self, count, until):
        while len(self.buffer) < count:
            self.fill(until)
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def take_through(self, mark, until):
        while (at := self.buffer.find(mark)) < 0:
            self.fill(until)
        return self.take(at + len(mark), until)

    def ended(self, timeout=DEADLINE):
        """Whether the peer ends the stream before the deadline; what it still sends is dropped."""
        until = time.monotonic() + timeout
        try:
            while True:
                self.fill(until)
                self.buffer.clear()
        except Closed:
            return True
        except TimeoutError:
            return False

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Response:
    """Status, headers and body of one answer."""

    def __init__(self, status, headers, body=b""):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        values = self.all(name)
        return ", ".join(values) if values else None

    def all(self, name):
        return [value for key, value in self.headers if key == name.lower()]

    def words(self, name):
        """The comma-separated members of a header, in lower case."""
        return {word.strip().lower() for word in (self.header(name) or "").split(",") if word.strip()}

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:400]!r}>"


def request_bytes(address, method, target, headers=(), body=None, host=None):
    lines = [f"{method} {target} HTTP/1.1"]
    names = {name.lower() for name, _ in headers}
    if "host" not in names:
        lines.append(f"Host: {host or '%s:%d' % address}")
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


def chunked(body, size=1000):
    """`body` in the chunked coding."""
    parts = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def read_head(link, until):
    head = link.take_through(b"\r\n\r\n", until).decode("latin-1")
    first, *rest = head[:-4].split("\r\n")
    version, status = first.split(" ")[:2]
    if version not in ("HTTP/1.1", "HTTP/1.0") or len(status) != 3:
        raise AssertionError(f"no status line: {first!r}")
    headers = []
    for line in rest:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip() or not name:
            raise AssertionError(f"no header: {line!r}")
        headers.append((name.lower(), value.strip()))
    return Response(int(status), headers)


def read_chunk(link, until):
    """The next chunk, empty at the end."""
    size = int(link.take_through(b"\r\n", until)[:-2].split(b";")[0], 16)
    data = link.take(size, until)
    if link.take(2, until) != b"\r\n":
        raise AssertionError("a chunk without its end")
    return data


def read_response(link, method="GET", timeout=DEADLINE):
    until = time.monotonic() + timeout
    response = read_head(link, until)
    while 100 <= response.status < 200 and response.status != 101:
        response = read_head(link, until)
    if method == "HEAD" or response.status in (101, 204, 304):
        return response
    if "chunked" in response.words("transfer-encoding"):
        parts = []
        while part := read_chunk(link, until):
            parts.append(part)
        response.body = b"".join(parts)
    elif (length := response.header("content-length")) is not None:
        response.body = link.take(int(length), until)
    else:
        try:
            while True:
                link.fill(until)
        except Closed:
            response.body = bytes(link.buffer)
            link.buffer.clear()
    return response


def fields(value):
    """Header fields given as a mapping or as pairs, as pairs."""
    return list(value.items()) if isinstance(value, dict) else list(value or ())


def query(path, parameters):
    """`path` with its query: pairs, or a mapping whose lists are repeated."""
    if isinstance(parameters, dict):
        parameters = [
            (name, value)
            for name, values in parameters.items()
            for value in (values if isinstance(values, (list, tuple)) else [values])
        ]
    text = "&".join(f"{quote(str(n), safe='')}={quote(str(v), safe='')}" for n, v in parameters or ())
    return f"{path}?{text}" if text else path


GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Close:
    """A close frame: `code` is `None` if it had no body."""

    def __init__(self, payload):
        if len(payload) == 1:
            raise AssertionError("a close frame of one byte")
        self.code = struct.unpack("!H", payload[:2])[0] if payload else None
        self.reason = payload[2:].decode("utf-8")

    @property
    def slug(self):
        return self.reason.split(" ")[0]

    def option(self, name):
        for word in self.reason.split(" ")[1:]:
            if word.startswith(name + "="):
                return word[len(name) + 1:]
        return None

    def __repr__(self):
        return f"<close {self.code} {self.reason!r}>"


def upgrade_headers(protocol=None, extensions=None, key=None, headers=()):
    lines = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key or base64.b64encode(os.urandom(16)).decode()),
    ]
    if protocol:
        lines.append(("Sec-WebSocket-Protocol", protocol))
    if extensions:
        lines.append(("Sec-WebSocket-Extensions", extensions))
    return lines + fields(headers)


def frame(opcode, payload=b"", fin=True, rsv=0, mask=True):
    head = bytearray([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head.append(bit | len(payload))
    elif len(payload) < 65536:
        head += struct.pack("!BH", bit | 126, len(payload))
    else:
        head += struct.pack("!BQ", bit | 127, len(payload))
    if not mask:
        return bytes(head) + payload
    key = os.urandom(4)
    body = int.from_bytes(payload, "big") ^ int.from_bytes((key * (len(payload) // 4 + 1))[:len(payload)], "big")
    return bytes(head) + key + body.to_bytes(len(payload), "big")


class Ws:
    """A WebSocket (RFC 6455); pings are answered as they come."""

    def __init__(self, hub, parameters=(), protocol="pushpull.v1.json", extensions=None, headers=(),
                 receive_buffer=None, pipelined=b""):
        self.link = Link(hub.address, hub.tls, receive_buffer)
        self.sent_key = base64.b64encode(os.urandom(16)).decode()
        target = query("/ws", parameters) if not isinstance(parameters, str) else f"/ws?{parameters}"
        lines = upgrade_headers(protocol, extensions, self.sent_key, headers)
        self.link.send(request_bytes(hub.address, "GET", target, lines) + pipelined)
        self.response = read_response(self.link)
        if self.response.status != 101:
            raise AssertionError(f"{target}: {self.response}")
        accept = base64.b64encode(hashlib.sha1(self.sent_key.encode() + GUID).digest()).decode()
        if self.response.header("sec-websocket-accept") != accept:
            raise AssertionError(f"wrong accept: {self.response}")
        self.deflate = "permessage-deflate" in (self.response.header("sec-websocket-extensions") or "")
        self.compressed = 0
        self.pings = self.pongs = 0
        self.queue = []
        self.closed = None
        self.answer_pings = True

    def send(self, opcode, payload=b"", **options):
        self.link.send(frame(opcode, payload, **options))

    def text(self, text):
        self.send(TEXT, text.encode())

    def tell(self, value):
        self.text(json.dumps(value))

    def deflated(self, data, opcode=TEXT, **options):
        """Sends `data` compressed."""
        maker = zlib.compressobj(wbits=-15)
        body = maker.compress(data) + maker.flush(zlib.Z_SYNC_FLUSH)
        self.send(opcode, body[:-4], rsv=4, **options)

    def frame(self, timeout=DEADLINE):
        until = time.monotonic() + timeout
        first, second = self.link.take(2, until)
        fin, rsv, opcode, length = first >> 7, first >> 4 & 7, first & 15, second & 127
        if second & 0x80:
            raise AssertionError("the server masked a frame")
        if length == 126:
            length = struct.unpack("!H", self.link.take(2, until))[0]
            shortest = length > 125
        elif length == 127:
            length = struct.unpack("!Q", self.link.take(8, until))[0]
            shortest = length > 65535
        else:
            shortest = True
        if not shortest or (opcode >= 8 and (length > 125 or not fin)) or rsv & 3:
            raise AssertionError(f"a bad frame: {first:#x} {second:#x} {length}")
        return fin, rsv, opcode, self.link.take(length, until)

    def message(self, timeout=DEADLINE):
        """The next message, as text or bytes; a `Close`; pings are answered, pongs counted."""
        until = time.monotonic() + timeout
        kind, squeezed, parts = None, False, []
        while True:
            fin, rsv, opcode, payload = self.frame(until - time.monotonic())
            if opcode == CLOSE:
                self.closed = Close(payload)
                return self.closed
            if opcode == PING:
                self.pings += 1
                if self.answer_pings:
                    self.send(PONG, payload)
                continue
            if opcode == PONG:
                self.pongs += 1
                continue
            if (opcode == CONTINUATION) == (kind is None) or opcode not in (CONTINUATION, TEXT, BINARY):
                raise AssertionError(f"opcode {opcode} out of place")
            if kind is None:
                kind, squeezed = opcode, bool(rsv & 4)
            elif rsv:
                raise AssertionError("RSV1 on a continuation")
            parts.append(payload)
            if fin:
                break
        data = b"".join(parts)
        if squeezed:
            if not self.deflate:
                raise AssertionError("compressed without being asked")
            self.compressed += 1
            data = zlib.decompressobj(wbits=-15).decompress(data + b"\0\0\xff\xff")
        return data.decode("utf-8") if kind == TEXT else data

    def next(self, timeout=DEADLINE):
        """The next object of the JSON protocol (arrays taken apart), or a `Close`."""
        if self.queue:
            return self.queue.pop(0)
        message = self.message(timeout)
        if isinstance(message, Close):
            return message
        if not isinstance(message, str):
            raise AssertionError(f"a binary message: {message!r}")
        value = json.loads(message)
        self.queue = value if isinstance(value, list) else [value]
        if not self.queue or not all(isinstance(item, dict) for item in self.queue):
            raise AssertionError(f"no object: {message!r}")
        return self.queue.pop(0)

    def until(self, *names, timeout=DEADLINE):
        """The next object that has one of the members named (`topic` for an event), or a `Close`."""
        until = time.monotonic() + timeout
        while True:
            item = self.next(until - time.monotonic())
            if isinstance(item, Close) or any(name in item for name in names):
                return item

    def event(self, timeout=DEADLINE):
        return self.until("topic", "gap", timeout=timeout)

    def events(self, count, timeout=DEADLINE):
        return [self.event(timeout) for _ in range(count)]

    def closing(self, timeout=DEADLINE):
        """The close frame, whatever comes before it."""
        until = time.monotonic() + timeout
        while not isinstance(item := self.message(until - time.monotonic()), Close):
            pass
        return item

    def close(self):
        self.link.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
