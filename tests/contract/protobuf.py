"""Protobuf as far as `pushpull.v1` needs it, by the numbers in the committed description.

Strict where a reader may be: a field that the description does not have, or has with another wire type, raises.
"""

import os
import re
import struct

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                     "../../crates/pushpull-http/proto/pushpull/v1/pushpull.proto")
VARINT, FIXED64, BYTES = 0, 1, 2
WIRE = {"double": FIXED64, "string": BYTES, "bytes": BYTES, "uint32": VARINT, "uint64": VARINT, "bool": VARINT}


class Field:
    """One field: its type, and whether it is `repeated`."""

    def __init__(self, name, number, kind, repeated):
        self.name, self.number, self.kind, self.repeated = name, number, kind, repeated

    @property
    def wire(self):
        return WIRE.get(self.kind, VARINT if self.kind in ENUMS else BYTES)


def described():
    """The messages and enums of the description, by name."""
    with open(PROTO, encoding="utf-8") as file:
        text = re.sub(r"//[^\n]*", "", file.read())
    messages, enums = {}, {}
    for kind, name, body in re.findall(r"^(message|enum) (\w+) \{(.*?)^\}", text, re.S | re.M):
        if kind == "enum":
            enums[name] = {word: int(number) for word, number in re.findall(r"(\w+) = (\d+);", body)}
        else:
            fields = re.findall(r"(repeated |optional |)(\w+) (\w+) = (\d+);", body)
            messages[name] = [Field(word, int(number), of, label == "repeated ") for label, of, word, number in fields]
    return messages, enums


MESSAGES, ENUMS = described()


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def delimited(data):
    return varint(len(data)) + data


def tag(number, wire):
    return varint(number << 3 | wire)


def encode(name, values):
    """The message `name` with the fields in `values`; an enum's value by its name or number."""
    fields = {field.name: field for field in MESSAGES[name]}
    out = b""
    for word, value in values.items():
        field = fields[word]
        for one in value if field.repeated else [value]:
            out += tag(field.number, field.wire) + encode_one(field, one)
    return out


def encode_one(field, value):
    if field.kind in MESSAGES:
        return delimited(encode(field.kind, value))
    if field.wire == BYTES:
        return delimited(value.encode() if field.kind == "string" else value)
    if field.wire == FIXED64:
        return struct.pack("<d", value)
    return varint(ENUMS[field.kind][value] if isinstance(value, str) else int(value))


def decode(name, data):
    """What is on the wire, by field; a field that is not there is left out. An enum's value comes by its name."""
    fields = {field.number: field for field in MESSAGES[name]}
    found, at = {}, 0
    while at < len(data):
        key, at = take_varint(data, at)
        field = fields.get(key >> 3)
        if field is None or field.wire != key & 7:
            raise AssertionError(f"{name} has no field {key >> 3} of wire type {key & 7}")
        value, at = take(field, data, at)
        if field.repeated:
            found.setdefault(field.name, []).append(value)
        else:
            found[field.name] = value
    return found


def take_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def take(field, data, at):
    if field.wire == FIXED64:
        return struct.unpack_from("<d", data, at)[0], at + 8
    value, at = take_varint(data, at)
    if field.wire == VARINT:
        names = {number: word for word, number in ENUMS.get(field.kind, {}).items()}
        return (bool(value) if field.kind == "bool" else names.get(value, value)), at
    body, end = bytes(data[at:at + value]), at + value
    if len(body) != value:
        raise AssertionError("a field was cut")
    if field.kind in MESSAGES:
        return decode(field.kind, body), end
    return (body.decode() if field.kind == "string" else body), end
