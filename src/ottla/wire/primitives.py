"""Variable-length integers of Kafka's protocol and record format, bounded.

Rules: a decoder reads at most ten bytes (64 bits) or five (32 bits), and raises ``DecodeError`` for a
number that is longer or for the buffer's end; nothing else escapes. Source:
``org.apache.kafka.common.utils.ByteUtils``.
"""

from __future__ import annotations

BytesLike = bytes | bytearray | memoryview


class DecodeError(ValueError):
    """The bytes are not what the schema says: the connection's close or a corrupt file."""


class EncodeError(ValueError):
    """A message holds a value that its schema cannot express in this version."""


def encode_uvarint(number: int) -> bytes:
    """An unsigned number below 2**64 in groups of seven bits, lowest first."""
    if number < 128:
        return bytes((number,))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_uvarint(buf: BytesLike, position: int) -> tuple[int, int]:
    """The unsigned 32-bit number at ``position`` and the position after it."""
    return _read(buf, position, 32)


def encode_varint(number: int) -> bytes:
    """A signed 64-bit number, zigzag."""
    return encode_uvarint((number << 1) ^ (number >> 63))


def read_varint(buf: BytesLike, position: int) -> tuple[int, int]:
    """The signed (zigzag) number of up to 64 bits at ``position`` and the position after it."""
    number, position = _read(buf, position, 64)
    return (number >> 1) ^ -(number & 1), position


def _read(buf: BytesLike, position: int, bits: int) -> tuple[int, int]:
    number = shift = 0
    try:
        while True:
            byte = buf[position]
            position += 1
            number |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift >= bits:
                raise DecodeError("variable-length number does not end")
    except IndexError:
        raise DecodeError("buffer ends inside a variable-length number") from None
    if number >> bits:
        raise DecodeError(f"variable-length number exceeds {bits} bits")
    return number, position
