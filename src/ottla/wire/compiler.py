"""Encoders and decoders, written as Python source for one (message, version) on its first use.

Rules:
- One codec path: what is decoded and encoded is only ever the generated code, which a debugger can step
  through (its lines are in ``linecache``).
- Any bytes may be given to ``decode``: it returns a message or raises ``DecodeError``. A length is held
  against the frame before it is believed, a count against the bytes that are left, and the sum of all
  counts in a frame against ``ELEMENTS_MAX``, so that a frame of a given size costs bounded memory.
- ``encode`` returns chunks. Record bytes are never copied: they are chunks of their own, or file regions.
- ``decode_in_steps`` and ``encode_in_steps`` are the same statements, as generators that yield after some
  ``STEP_ELEMENTS`` structs, for who must not be away for long.
"""

from __future__ import annotations

import linecache
import struct
from collections.abc import Generator
from typing import Any, TypeVar

from ottla.wire.primitives import (
    BytesLike,
    DecodeError,
    EncodeError,
    encode_uvarint,
    read_uvarint,
)
from ottla.wire.schema import Message, MessageType, Spec, default_source

ELEMENTS_MAX = 1_000_000
"""How many array elements a frame may hold in all: a small struct takes 3 bytes on the wire, 130 here."""

STEP_ELEMENTS = 200
"""How many structs of arrays are decoded or encoded in one step: some 0.2 ms."""

FIXED: dict[str, tuple[str, int]] = {
    "boolean": ("?", 1),
    "int8": ("b", 1),
    "int16": ("h", 2),
    "uint16": ("H", 2),
    "int32": ("i", 4),
    "uint32": ("I", 4),
    "int64": ("q", 8),
    "float64": ("d", 8),
}

M = TypeVar("M", bound=Message)
Field = tuple[str, Spec]


def decode(cls: type[M], version: int, buf: BytesLike, position: int = 0) -> tuple[M, int]:
    """The message at ``position`` and the position after it; raises ``DecodeError``."""
    function = _decoders.get((cls, version))
    if function is None:
        function = _decoders[cls, version] = _compile_decoder(cls, version)
    view = buf if type(buf) is memoryview else memoryview(buf)
    try:
        return function(view, position, len(view))  # type: ignore[no-any-return]
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise DecodeError(f"{cls.__name__} v{version}: {error}") from error


def decode_in_steps(
    cls: type[M], version: int, buf: BytesLike, position: int = 0
) -> Generator[None, None, tuple[M, int]]:
    """As ``decode``, some of it in each step; the frame must not be written to meanwhile."""
    function = _stepwise_decoders.get((cls, version))
    if function is None:
        function = _stepwise_decoders[cls, version] = _compile_decoder(cls, version, in_steps=True)
    view = buf if type(buf) is memoryview else memoryview(buf)
    try:
        found: tuple[M, int] = yield from function(view, position, len(view))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise DecodeError(f"{cls.__name__} v{version}: {error}") from error
    return found


def encode(message: Message, version: int) -> list[Any]:
    """The message as chunks: bytes-likes and, where it holds them, file regions. Raises ``EncodeError``."""
    cls = type(message)
    function = _encoders.get((cls, version))
    if function is None:
        function = _encoders[cls, version] = _compile_encoder(cls, version)
    try:
        return function(message)  # type: ignore[no-any-return]
    except (struct.error, AttributeError, TypeError, UnicodeEncodeError) as error:
        raise EncodeError(f"{cls.__name__} v{version}: {error}") from error


def encode_in_steps(message: Message, version: int) -> Generator[None, None, list[Any]]:
    """As ``encode``, some of it in each step; nobody may change the message meanwhile."""
    cls = type(message)
    function = _stepwise_encoders.get((cls, version))
    if function is None:
        function = _stepwise_encoders[cls, version] = _compile_encoder(cls, version, in_steps=True)
    try:
        chunks: list[Any] = yield from function(message)
    except (struct.error, AttributeError, TypeError, UnicodeEncodeError) as error:
        raise EncodeError(f"{cls.__name__} v{version}: {error}") from error
    return chunks


def encode_bytes(message: Message, version: int) -> bytes:
    """The message in one piece; for messages without file regions."""
    return b"".join(encode(message, version))


_decoders: dict[tuple[type, int], Any] = {}
_encoders: dict[tuple[type, int], Any] = {}
_stepwise_decoders: dict[tuple[type, int], Any] = {}
_stepwise_encoders: dict[tuple[type, int], Any] = {}


def too_long(what: str, length: int, left: int) -> DecodeError:
    """The error for a length or a count that the frame cannot hold."""
    if length < 0:
        return DecodeError(f"{what} is null or of negative length {length}")
    return DecodeError(f"{what} of length {length} where {left} bytes are left")


class _Source:
    """Lines of a function under construction, and the names that they use.

    ``in_steps``: it is a generator that yields after so many elements of arrays.
    """

    def __init__(self, in_steps: bool) -> None:
        self._in_steps = in_steps
        self.lines: list[str] = []
        self.scope: dict[str, Any] = {
            "uvarint": encode_uvarint,
            "read_uvarint": read_uvarint,
            "unpack_from": struct.unpack_from,
            "pack": struct.pack,
            "too_long": too_long,
            "new": object.__new__,
            "ELEMENTS_MAX": ELEMENTS_MAX,
            "pack_records": _pack_records,
            "STEP": STEP_ELEMENTS,
        }
        self._names = 0

    def write(self, indent: int, line: str) -> None:
        self.lines.append("    " * indent + line)

    def begin(self, signature: str) -> None:
        """The function's head. One without arrays of structs is a generator all the same."""
        self.write(0, f"def generated({signature}):")
        if self._in_steps:
            self.write(1, "step = STEP")
            self.write(1, "if not STEP: yield")

    def element(self, indent: int) -> None:
        """The end of a loop's body. Encoding yields after structs alone: a list of numbers may be another's."""
        if self._in_steps:
            self.write(indent, "step -= 1")
            self.write(indent, "if not step: step = STEP; yield")

    def name(self, prefix: str, value: Any = None) -> str:
        self._names += 1
        name = f"{prefix}{self._names}"
        if value is not None:
            self.scope[name] = value
        return name

    def compile(self, title: str) -> Any:
        source = "\n".join(self.lines)
        filename = f"<ottla {title}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        exec(compile(source, filename, "exec"), self.scope)
        return self.scope["generated"]


def _live(cls: MessageType, version: int) -> tuple[list[Field], list[Field], list[Field]]:
    """The fields of a version: plain, tagged, and those that it does not carry."""
    plain: list[Field] = []
    tagged: list[Field] = []
    absent: list[Field] = []
    for name, spec in cls.__fields__.items():
        if not spec.versions.has(version):
            absent.append((name, spec))
        elif spec.tag is not None:
            tagged.append((name, spec))
        else:
            plain.append((name, spec))
    tagged.sort(key=lambda field: field[1].tag or 0)
    return plain, tagged, absent


def _runs(fields: list[Field]) -> list[list[Field]]:
    """Neighbours of fixed size together, everything else alone."""
    runs: list[list[Field]] = []
    for field in fields:
        if runs and field[1].kind in FIXED and runs[-1][-1][1].kind in FIXED:
            runs[-1].append(field)
        else:
            runs.append([field])
    return runs


def _compile_decoder(cls: type[Message], version: int, *, in_steps: bool = False) -> Any:
    source = _Source(in_steps)
    source.begin("buf, pos, end")
    source.write(1, "left = ELEMENTS_MAX")
    _Decoder(source, version, version >= cls.__flexible_from__).struct(cls, "message", 1)
    source.write(1, "return message, pos")
    return source.compile(f"decode {cls.__name__} v{version}{' in steps' * in_steps}")


class _Decoder:
    """Writes the decoding statements of one version."""

    def __init__(self, source: _Source, version: int, flexible: bool) -> None:
        self.source = source
        self.version = version
        self.flexible = flexible

    def struct(self, cls: MessageType, target: str, indent: int) -> None:
        write = self.source.write
        plain, tagged, absent = _live(cls, self.version)
        write(indent, f"{target} = new({self.source.name('C', cls)})")
        for name, spec in absent + tagged:
            alias = self.source.name(f"{name}_")
            write(indent, f"{target}.{name} = {default_source(alias, spec, self.source.scope)}")
        for run in _runs(plain):
            if run[0][1].kind in FIXED:
                self._fixed([(f"{target}.{name}", spec) for name, spec in run], indent)
            else:
                self.value(run[0][0], run[0][1], f"{target}.{run[0][0]}", indent)
        if self.flexible:
            self._tags(tagged, target, indent)

    def _fixed(self, run: list[Field], indent: int) -> None:
        layout = struct.Struct(">" + "".join(FIXED[spec.kind][0] for _, spec in run))
        unpack = self.source.name("S", layout.unpack_from)
        targets = ", ".join(target for target, _ in run) + ("," if len(run) == 1 else "")
        self.source.write(indent, f"{targets} = {unpack}(buf, pos); pos += {layout.size}")

    def _tags(self, tagged: list[Field], target: str, indent: int) -> None:
        """Known tagged fields; unknown ones are skipped. A field must fill its size exactly."""
        write, name = self.source.write, self.source.name
        count, tag, size, stop, outer = (name(p) for p in ("n", "tag", "size", "stop", "end"))
        write(indent, f"{count} = buf[pos]; pos += 1")
        write(indent, f"if {count}:")
        indent += 1
        write(indent, f"if {count} > 127: {count}, pos = read_uvarint(buf, pos - 1)")
        write(indent, f"left -= {count}")
        write(indent, f"if left < 0: raise too_long('tagged fields', {count}, end - pos)")
        write(indent, f"for _ in range({count}):")
        write(indent + 1, f"{tag}, pos = read_uvarint(buf, pos)")
        write(indent + 1, f"{size}, pos = read_uvarint(buf, pos)")
        write(
            indent + 1, f"if {size} > end - pos: raise too_long('tagged field', {size}, end - pos)"
        )
        write(indent + 1, f"{stop} = pos + {size}")
        for field, spec in tagged:
            write(indent + 1, f"if {tag} == {spec.tag}:")
            write(indent + 2, f"{outer} = end; end = {stop}")
            self.value(field, spec, f"{target}.{field}", indent + 2)
            write(indent + 2, f"end = {outer}")
            write(
                indent + 2,
                f"if pos != {stop}: raise too_long('tagged field {field}', {size}, end - pos)",
            )
        write(indent + 1, f"pos = {stop}")

    def value(self, field: str, spec: Spec, target: str, indent: int) -> None:
        kind = spec.kind
        if kind in FIXED:
            self._fixed([(target, spec)], indent)
        elif kind == "uuid":
            self.source.write(
                indent, f"if end - pos < 16: raise too_long('{field}', 16, end - pos)"
            )
            self.source.write(indent, f"{target} = bytes(buf[pos:pos + 16]); pos += 16")
        elif kind == "struct":
            self._nested(field, spec, target, indent)
        elif kind == "array":
            self._array(field, spec, target, indent)
        else:
            self._sized(field, spec, target, indent)

    def _length(self, field: str, spec: Spec, target: str, indent: int, layout: str) -> str:
        """Reads a length or count and handles null and nonsense; what follows belongs in the else."""
        write, length = self.source.write, self.source.name("n")
        if self.flexible:
            write(indent, f"{length} = buf[pos] - 1; pos += 1")
            long = f"{length}, pos = read_uvarint(buf, pos - 1); {length} -= 1"
            write(indent, f"if {length} > 126:")
            if spec.kind == "records":  # two bytes, as most batches have, are not worth a call
                two = f"{length} += (buf[pos] - 1) * 128; pos += 1"
                write(indent + 1, f"if 0 < buf[pos] < 128: {two}")
                long = f"else: {long}"
            write(indent + 1, long)
        else:
            size = struct.calcsize(layout)
            write(indent, f"{length}, = unpack_from('{layout}', buf, pos); pos += {size}")
        if spec.nullable is not None and spec.nullable.has(self.version):
            write(indent, f"if {length} == -1: {target} = None")
            write(indent, f"elif not 0 <= {length} <= end - pos:")
        else:
            write(indent, f"if not 0 <= {length} <= end - pos:")
        write(indent + 1, f"raise too_long('{field}', {length}, end - pos)")
        write(indent, "else:")
        return length

    def _sized(self, field: str, spec: Spec, target: str, indent: int) -> None:
        layout = ">h" if spec.kind == "string" else ">i"
        length = self._length(field, spec, target, indent, layout)
        piece = f"buf[pos:pos + {length}]"
        if spec.kind == "string":
            piece = f"str({piece}, 'utf-8')"
        elif spec.kind == "bytes_":
            piece = f"bytes({piece})"
        self.source.write(indent + 1, f"{target} = {piece}; pos += {length}")

    def _nested(self, field: str, spec: Spec, target: str, indent: int) -> None:
        inner = self.source.name("m")
        if spec.nullable is not None and spec.nullable.has(self.version):
            mark = self.source.name("n")
            self.source.write(indent, f"{mark}, = unpack_from('>b', buf, pos); pos += 1")
            self.source.write(indent, f"if {mark} < 0: {target} = None")
            self.source.write(indent, "else:")
            indent += 1
        self.struct(spec.of, inner, indent)
        self.source.write(indent, f"{target} = {inner}")

    def _array(self, field: str, spec: Spec, target: str, indent: int) -> None:
        count = self._length(field, spec, target, indent, ">i")
        write = self.source.write
        indent += 1
        write(indent, f"left -= {count}")
        write(indent, f"if left < 0: raise too_long('{field}', {count}, end - pos)")
        if isinstance(spec.of, Spec) and spec.of.kind in FIXED:
            letter, size = FIXED[spec.of.kind]
            write(
                indent,
                f"if {count} * {size} > end - pos: raise too_long('{field}', {count}, end - pos)",
            )
            write(
                indent,
                f"{target} = list(unpack_from(f'>{{{count}}}{letter}', buf, pos)); pos += {count} * {size}",
            )
            return
        items, element = self.source.name("a"), self.source.name("e")
        write(indent, f"{items} = {target} = []")
        write(indent, f"for _ in range({count}):")
        if isinstance(spec.of, Spec):
            self.value(field, spec.of, element, indent + 1)
        else:
            self.struct(spec.of, element, indent + 1)
        write(indent + 1, f"{items}.append({element})")
        self.source.element(indent + 1)


def _compile_encoder(cls: type[Message], version: int, *, in_steps: bool = False) -> Any:
    source = _Source(in_steps)
    source.begin("message")
    source.write(1, "chunks = []; out = bytearray()")
    _Encoder(source, version, version >= cls.__flexible_from__).struct(cls, "message", 1)
    source.write(1, "chunks.append(out)")
    source.write(1, "return chunks")
    return source.compile(f"encode {cls.__name__} v{version}{' in steps' * in_steps}")


class _Encoder:
    """Writes the encoding statements of one version."""

    def __init__(self, source: _Source, version: int, flexible: bool) -> None:
        self.source = source
        self.version = version
        self.flexible = flexible

    def struct(self, cls: MessageType, origin: str, indent: int) -> None:
        plain, tagged, _ = _live(cls, self.version)
        for run in _runs(plain):
            if run[0][1].kind in FIXED:
                layout = struct.Struct(">" + "".join(FIXED[spec.kind][0] for _, spec in run))
                pack = self.source.name("P", layout.pack)
                values = ", ".join(f"{origin}.{name}" for name, _ in run)
                self.source.write(indent, f"out += {pack}({values})")
            else:
                self.value(run[0][1], f"{origin}.{run[0][0]}", indent)
        if self.flexible:
            self._tags(tagged, origin, indent)

    def _tags(self, tagged: list[Field], origin: str, indent: int) -> None:
        write = self.source.write
        if not tagged:
            write(indent, "out.append(0)")
            return
        tags, outer = self.source.name("tags"), self.source.name("outer")
        write(indent, f"{tags} = []")
        for name, spec in tagged:
            value = f"{origin}.{name}"
            if spec.default is None or spec.kind == "struct":
                write(indent, f"if {value} is not None:")
            elif spec.kind == "array":
                write(indent, f"if {value}:")
            else:
                write(indent, f"if {value} != {self.source.name('D', spec.default)}:")
            write(indent + 1, f"{outer} = out; out = bytearray()")
            self.value(spec, value, indent + 1)
            head = self.source.name("T", encode_uvarint(spec.tag or 0))
            write(indent + 1, f"{tags}.append({head} + uvarint(len(out)) + out); out = {outer}")
        write(indent, f"out += uvarint(len({tags}))")
        write(indent, f"for t in {tags}: out += t")

    def _null(self, spec: Spec, value: str, indent: int, layout: str) -> None:
        """Null where the version allows it. Elsewhere ``len(None)`` raises and becomes an EncodeError."""
        if spec.nullable is not None and spec.nullable.has(self.version):
            null = b"\0" if self.flexible else struct.pack(layout, -1)
            self.source.write(indent, f"if {value} is None: out += {null!r}")
            self.source.write(indent, "else:")
        else:
            self.source.write(indent, "if True:")

    def value(self, spec: Spec, value: str, indent: int) -> None:
        kind = spec.kind
        write = self.source.write
        if kind in FIXED:
            write(indent, f"out += pack('>{FIXED[kind][0]}', {value})")
        elif kind == "uuid":
            write(indent, f"if len({value}) != 16: raise TypeError('an id has 16 bytes')")
            write(indent, f"out += {value}")
        elif kind == "struct":
            if spec.nullable is not None and spec.nullable.has(self.version):
                write(indent, f"if {value} is None: out += b'\\xff'")
                write(indent, "else:")
                indent += 1
                write(indent, "out += b'\\1'")
            inner = self.source.name("m")
            write(indent, f"{inner} = {value}")
            self.struct(spec.of, inner, indent)
        elif kind == "array":
            self._array(spec, value, indent)
        elif kind == "records":
            self._null(spec, value, indent, ">i")
            # Nothing is no chunk of its own: an answer of thousands of partitions is nearly all of these.
            nothing = b"\1" if self.flexible else bytes(4)
            write(indent + 1, f"if not {value}: out += {nothing!r}")
            write(indent + 1, "else:")
            write(indent + 2, f"chunks.append(out); out = pack_records({value}, chunks,")
            write(indent + 2, f"    {'uvarint' if self.flexible else None})")
        else:
            self._sized(spec, value, indent)

    def _sized(self, spec: Spec, value: str, indent: int) -> None:
        layout = ">h" if spec.kind == "string" else ">i"
        self._null(spec, value, indent, layout)
        piece = self.source.name("b")
        encoded = f"{value}.encode()" if spec.kind == "string" else value
        self.source.write(indent + 1, f"{piece} = {encoded}")
        self._length(f"len({piece})", layout, indent + 1)
        self.source.write(indent + 1, f"out += {piece}")

    def _length(self, length: str, layout: str, indent: int) -> None:
        """A length or count. Nearly all fit into one byte: those are not worth a call."""
        write = self.source.write
        if not self.flexible:
            write(indent, f"out += {self.source.name('P', struct.Struct(layout).pack)}({length})")
            return
        count = self.source.name("n")
        write(indent, f"{count} = {length} + 1")
        write(indent, f"if {count} < 128: out.append({count})")
        write(indent, f"else: out += uvarint({count})")

    def _array(self, spec: Spec, value: str, indent: int) -> None:
        write = self.source.write
        self._null(spec, value, indent, ">i")
        indent += 1
        self._length(f"len({value})", ">i", indent)
        element = self.source.name("e")
        write(indent, f"for {element} in {value}:")
        if isinstance(spec.of, Spec):
            self.value(spec.of, element, indent + 1)
        else:
            self.struct(spec.of, element, indent + 1)
            self.source.element(indent + 1)


def _pack_records(value: Any, chunks: list[Any], uvarint: Any) -> bytearray:
    """Appends the records' chunks behind their length, which goes to the chunk before them."""
    pieces = value if isinstance(value, (list, tuple)) else (value,)
    length = sum(map(len, pieces))
    chunks[-1] += uvarint(length + 1) if uvarint else struct.pack(">i", length)
    chunks.extend(pieces)
    return bytearray()
