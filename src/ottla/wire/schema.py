"""Messages as classes: one for all versions of a message, each field with the versions that carry it.

A message class is a subclass of ``Message`` whose fields are annotated attributes with a specifier::

    class TopicProduceData(Message):
        name: str = string(versions=V(0, 12))
        topic_id: bytes = uuid(versions=since(13))

Rules: constructors take keywords only, and a missing field gets Kafka's default; instances have slots and
compare by value. A top-level message also says its key, its versions and the first flexible one. Nothing
is generated until a class is first constructed, encoded or decoded: an import costs a class statement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, dataclass_transform

if TYPE_CHECKING:
    from ottla.wire.primitives import BytesLike
    from ottla.wire.regions import FileRegion

Records: TypeAlias = "BytesLike | FileRegion | Sequence[BytesLike | FileRegion]"
"""Record batches: decoded they are a ``memoryview``; to be encoded, bytes or regions or a list of both."""

NEWEST = 32767
"""The end of an open version range."""


class V(NamedTuple):
    """A closed range of versions."""

    lo: int
    hi: int = NEWEST

    def has(self, version: int) -> bool:
        """Whether ``version`` lies in the range."""
        return self.lo <= version <= self.hi


def since(lo: int) -> V:
    """Every version from ``lo`` on."""
    return V(lo)


EVERY = V(0)


class Spec(NamedTuple):
    """What the wire knows of a field."""

    kind: str
    default: Any
    versions: V
    nullable: V | None
    tag: int | None
    of: Any
    """The struct's class, or an array's element: a class or a ``Spec``."""


_DEFAULTS: dict[str, Any] = {
    "boolean": False,
    "int8": 0,
    "int16": 0,
    "uint16": 0,
    "int32": 0,
    "uint32": 0,
    "int64": 0,
    "float64": 0.0,
    "string": "",
    "bytes_": b"",
    "records": None,
    "uuid": bytes(16),
}


def _spec(kind: str) -> Any:
    kafkas_default = _DEFAULTS[kind]

    def specifier(
        *,
        default: Any = kafkas_default,
        versions: V = EVERY,
        nullable: V | None = None,
        tag: int | None = None,
    ) -> Any:
        return Spec(kind, default, versions, nullable, tag, None)

    specifier.__name__ = kind
    specifier.__doc__ = f"A field of type ``{kind}``."
    return specifier


boolean: Callable[..., Any] = _spec("boolean")
int8: Callable[..., Any] = _spec("int8")
int16: Callable[..., Any] = _spec("int16")
uint16: Callable[..., Any] = _spec("uint16")
int32: Callable[..., Any] = _spec("int32")
uint32: Callable[..., Any] = _spec("uint32")
int64: Callable[..., Any] = _spec("int64")
float64: Callable[..., Any] = _spec("float64")
string: Callable[..., Any] = _spec("string")
bytes_: Callable[..., Any] = _spec("bytes_")
records: Callable[..., Any] = _spec("records")
uuid: Callable[..., Any] = _spec("uuid")


def struct(
    of: type[Message],
    *,
    default: None = None,
    versions: V = EVERY,
    nullable: V | None = None,
    tag: int | None = None,
) -> Any:
    """A nested struct. ``None`` stands for null, and in a tagged field for "left out"."""
    return Spec("struct", default, versions, nullable, tag, of)


def array(
    of: Any,
    *,
    default: Any = list,
    versions: V = EVERY,
    nullable: V | None = None,
    tag: int | None = None,
) -> Any:
    """A list of structs (``of`` a message class) or of primitives (``of`` a specifier, e.g. ``int32``)."""
    element = of if isinstance(of, type) else of()
    return Spec("array", default, versions, nullable, tag, element)


@dataclass_transform(
    kw_only_default=True,
    field_specifiers=(
        boolean,
        int8,
        int16,
        uint16,
        int32,
        uint32,
        int64,
        float64,
        string,
        bytes_,
        records,
        uuid,
        struct,
        array,
    ),
)
class MessageType(type):
    """Collects the specifiers of a message class into ``__fields__`` and turns them into slots."""

    __fields__: dict[str, Spec]
    __api_key__: int
    __versions__: V
    __flexible_from__: int

    def __new__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: Any
    ) -> MessageType:
        """Make the class; ``key``, ``versions`` and ``flexible_from`` are left to ``__init__``."""
        fields = {key: spec for key, spec in namespace.items() if isinstance(spec, Spec)}
        for key in fields:
            del namespace[key]
        namespace["__slots__"] = tuple(fields)
        made = super().__new__(cls, name, bases, namespace)
        made.__fields__ = fields
        return made

    def __init__(
        cls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        key: int = -1,
        versions: tuple[int, int] = (0, -1),
        flexible_from: int = NEWEST + 1,
    ) -> None:
        super().__init__(name, bases, namespace)
        cls.__api_key__ = key
        cls.__versions__ = V(*versions)
        cls.__flexible_from__ = flexible_from


class Message(metaclass=MessageType):
    """The base of every message and struct."""

    def __init__(self, **values: Any) -> None:
        # The first construction of a class writes its own constructor over this one.
        cls = type(self)
        cls.__init__ = _compile_constructor(cls)  # type: ignore[method-assign]
        cls.__init__(self, **values)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in type(self).__fields__)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in type(self).__fields__)
        return f"{type(self).__name__}({shown})"


def default_source(name: str, spec: Spec, scope: dict[str, Any]) -> str:
    """An expression for a fresh default of the field, its names added to ``scope``."""
    if spec.kind == "array":
        return "[]" if spec.default is list else "None"
    if spec.kind == "struct" and spec.tag is None and spec.nullable is None:
        scope[f"_new_{name}"] = spec.of
        return f"_new_{name}()"
    constant = f"_default_{name}"
    scope[constant] = spec.default
    return constant


def _compile_constructor(cls: MessageType) -> Any:
    scope: dict[str, Any] = {"_unset": object()}
    parameters, body = [], []
    for name, spec in cls.__fields__.items():
        source = default_source(name, spec, scope)
        fresh = source.endswith(("()", "[]"))
        parameters.append(f"{name}={'_unset' if fresh else source}")
        value = f"{source} if {name} is _unset else {name}" if fresh else name
        body.append(f"    self.{name} = {value}")
    signature = f"def __init__(self{', *, ' if parameters else ''}{', '.join(parameters)}):"
    exec("\n".join([signature, *(body or ["    pass"])]), scope)
    return scope["__init__"]
