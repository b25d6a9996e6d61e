"""Messages with something in every field, made from their classes."""

from __future__ import annotations

from typing import Any

from ottla.messages.registry import API_NAMES, api, encode_request, encode_response


def sample(spec_or_class: Any) -> Any:
    """A value with something in every field."""
    if isinstance(spec_or_class, type):
        fields = spec_or_class.__fields__  # type: ignore[attr-defined]
        return spec_or_class(**{name: sample(spec) for name, spec in fields.items()})
    kind = spec_or_class.kind
    if kind == "array":
        return [sample(spec_or_class.of), sample(spec_or_class.of)]
    if kind == "struct":
        return sample(spec_or_class.of)
    simple: dict[str, Any] = {
        "string": "weather",
        "bytes_": b"\x01\x02\x03",
        "records": bytes(70),
        "uuid": bytes(range(16)),
        "boolean": True,
        "float64": 1.5,
    }
    return simple.get(kind, 1)


def whole_requests(correlation_id: int) -> list[bytes]:
    """Every version of every request, without its length."""
    return [
        b"".join(encode_request(sample(api(key).request), version, correlation_id, "client"))
        for key in API_NAMES
        for version in range(api(key).versions.lo, api(key).versions.hi + 1)
    ]


def whole_responses(correlation_id: int) -> list[tuple[int, int, bytes]]:
    """Every version of every response with its API key and its version, without its length."""
    return [
        (
            key,
            version,
            b"".join(encode_response(key, version, correlation_id, sample(api(key).response))),
        )
        for key in API_NAMES
        for version in range(api(key).versions.lo, api(key).versions.hi + 1)
    ]
