"""CRC32C (Castagnoli), the checksum of record batches and of Kafka's snapshot files.

``crc32c`` is the C function itself (hardware instructions, any contiguous buffer, no copy), so a
call costs no Python frame. The package's ``__init__`` pulls in ``argparse`` and
``importlib.metadata``, which costs more than the rest of a broker's start; so its extension module
is loaded directly, and the ordinary import is the fallback where the package is laid out otherwise.
"""

from __future__ import annotations

from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Protocol

_CHECK_INPUT = b"123456789"
_CHECK_VALUE = 0xE3069283  # the polynomial's published check value (RFC 3720, appendix B.4)


class Crc32c(Protocol):
    """The C function's signature."""

    def __call__(self, data: bytes | bytearray | memoryview, value: int = 0, /) -> int:
        """The checksum of ``data``, as an unsigned 32-bit number.

        ``value`` is the checksum of the bytes before, when a region is checked in pieces. The
        interpreter lock is released for large inputs.
        """
        ...


def _load() -> Crc32c:
    package = find_spec("crc32c")
    locations = package.submodule_search_locations if package is not None else None
    spec = PathFinder.find_spec("crc32c._crc32c", locations) if locations is not None else None
    if spec is not None and spec.loader is not None:
        extension = module_from_spec(spec)
        spec.loader.exec_module(extension)
        function: Crc32c | None = getattr(extension, "crc32c", None)
        if function is not None and function(_CHECK_INPUT) == _CHECK_VALUE:
            return function
    from crc32c import crc32c as packaged

    return packaged


crc32c: Crc32c = _load()
