"""Writes the first draft of a module of ``ottla.messages`` from Kafka's JSON schemas.

Used when an API is added: ``python tools/draft_messages.py SCHEMA_DIR Produce 3-13 > produce.py``, where
SCHEMA_DIR holds ``ProduceRequest.json`` and ``ProduceResponse.json`` (kafka-python's wheel carries them).
What it prints is then ours to edit; tests/conformance holds the modules against the schemas.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

PYTHON = {
    "bool": ("boolean", "bool"),
    "int8": ("int8", "int"),
    "int16": ("int16", "int"),
    "uint16": ("uint16", "int"),
    "int32": ("int32", "int"),
    "uint32": ("uint32", "int"),
    "int64": ("int64", "int"),
    "float64": ("float64", "float"),
    "string": ("string", "str"),
    "bytes": ("bytes_", "bytes"),
    "records": ("records", "Records"),
    "uuid": ("uuid", "bytes"),
}

DEFAULTS = {
    "boolean": "False",
    "string": '""',
    "bytes_": 'b""',
    "uuid": "bytes(16)",
    "records": "None",
    "struct": "None",
    "array": "list",
    "float64": "0.0",
}


def snake(name: str) -> str:
    """``ErrorCode`` or ``errorCode`` as ``error_code``."""
    name = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name).lower()


def load(path: Path) -> dict[str, Any]:
    """A schema; Kafka's JSON has comment lines."""
    text = re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.M)
    return json.loads(text)  # type: ignore[no-any-return]


def versions(text: str) -> tuple[int, int | None]:
    """``"3-13"``, ``"4+"`` or ``"0"`` as a pair; None for no end."""
    if text.endswith("+"):
        return int(text[:-1]), None
    lo, _, hi = text.partition("-")
    return int(lo), int(hi or lo)


class Draft:
    """The classes of one module."""

    def __init__(self) -> None:
        self.classes: dict[str, list[str]] = {}
        self.used: set[str] = set()

    def v(self, text: str) -> str:
        """A version range as source."""
        lo, hi = versions(text)
        self.used.add("since" if hi is None else "V")
        return f"since({lo})" if hi is None else f"V({lo}, {hi})"

    def field(self, field: dict[str, Any], valid: tuple[int, int], owner: str) -> str | None:
        """One field's line, or None where no valid version carries it."""
        lo, hi = versions(field["versions"])
        if lo > valid[1] or (hi is not None and hi < valid[0]):
            return None
        kind = field["type"]
        arguments = []
        if lo > valid[0] or (hi is not None and hi < valid[1]):
            arguments.append(f"versions={self.v(field['versions'])}")
        nullable = field.get("nullableVersions", "none")
        if nullable != "none":
            arguments.append(f"nullable={self.v(nullable)}")
        if "tag" in field:
            arguments.append(f"tag={field['tag']}")
        default = field.get("default")
        null = " | None" if nullable != "none" or default == "null" else ""
        if kind.startswith("[]"):
            specifier, annotation, first = self.array(kind[2:], field, valid, owner)
            if default == "null":
                arguments.insert(0, "default=None")
        elif kind in PYTHON:
            specifier, annotation = PYTHON[kind]
            first = ""
            if annotation == "Records":
                self.used.add(annotation)
            if default not in (None, ""):
                arguments.insert(0, f"default={literal(kind, str(default))}")
        else:
            specifier, annotation, first = "struct", self.struct(kind, field, valid, owner), ""
            first = annotation
            if nullable != "none" or "tag" in field:
                null = " | None"
        self.used.add(specifier)
        if not any(argument.startswith("default=") for argument in arguments):
            # Said even where it is the specifier's own: without it a type checker takes the field for required.
            arguments.insert(0, f"default={DEFAULTS.get(specifier, '0')}")
        inside = ", ".join([*([first] if first else []), *arguments])
        return f"    {snake(field['name'])}: {annotation}{null} = {specifier}({inside})"

    def array(
        self, element: str, field: dict[str, Any], valid: tuple[int, int], owner: str
    ) -> tuple[str, str, str]:
        """Specifier, annotation and first argument of an array."""
        if element in PYTHON:
            specifier, annotation = PYTHON[element]
            self.used.add(specifier)
            return "array", f"list[{annotation}]", specifier
        name = self.struct(element, field, valid, owner)
        return "array", f"list[{name}]", name

    def struct(self, name: str, field: dict[str, Any], valid: tuple[int, int], owner: str) -> str:
        """Writes a nested struct and returns its name."""
        if "fields" in field:
            lines = self.body(field["fields"], valid, owner)
            if name in self.classes and self.classes[name] != lines:
                name = owner + name
            self.classes[name] = lines
        return name

    def body(self, fields: list[dict[str, Any]], valid: tuple[int, int], owner: str) -> list[str]:
        """The lines of a class's fields."""
        lines = [self.field(field, valid, owner) for field in fields]
        return [line for line in lines if line is not None] or ["    pass"]

    def message(self, schema: dict[str, Any], valid: tuple[int, int]) -> None:
        """Writes a request, a response or a header-less schema."""
        owner = schema["name"]
        for common in schema.get("commonStructs", []):
            self.classes[common["name"]] = self.body(common["fields"], valid, owner)
        lines = self.body(schema["fields"], valid, owner)
        self.classes[owner] = lines
        flexible = schema.get("flexibleVersions", "none")
        extra = "" if flexible == "none" else f", flexible_from={versions(flexible)[0]}"
        key = f"key={schema['apiKey']}, " if "apiKey" in schema else ""
        self.heads = getattr(self, "heads", {})
        self.heads[owner] = f"Message, {key}versions=({valid[0]}, {valid[1]}){extra}"

    def source(self, title: str) -> str:
        """The module."""
        parts = [f'"""{title}"""', "", "from __future__ import annotations", ""]
        names = sorted(self.used | {"Message"}, key=lambda n: (n.islower(), n))
        parts += [f"from ottla.wire.schema import {', '.join(names)}", ""]
        for name, lines in self.classes.items():
            parts += ["", f"class {name}({self.heads.get(name, 'Message')}):"]
            parts += [f'    """{describe(name, self.heads.get(name))}"""', "", *lines, ""]
        return "\n".join(parts)


def describe(name: str, head: str | None) -> str:
    """A docstring: the words of the class's name."""
    words = re.sub(r"(?<=[a-z])([A-Z])", r" \1", name).lower()
    return f"{words[0].upper()}{words[1:]}." if head is None else f"Kafka's ``{name}``."


def literal(kind: str, default: str) -> str:
    """A default as Python source."""
    if default == "null":
        return "None"
    if kind == "bool":
        return default.capitalize()
    if kind == "string":
        return repr(default)
    if kind == "float64":
        return repr(float(default))
    return str(int(default, 0))


def main() -> None:
    """See the module's docstring."""
    folder, api, span = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    lo, hi = versions(span)
    draft = Draft()
    key = None
    files = [folder / f"{api}{side}.json" for side in ("Request", "Response")]
    for path in files if files[0].exists() else [folder / f"{api}.json"]:
        schema = load(path)
        key = schema.get("apiKey", key)
        draft.message(schema, (lo, lo if hi is None else hi))
    title = (
        f"{api}, API key {key}, versions {span}." if key is not None else f"{api}, versions {span}."
    )
    print(draft.source(title))


if __name__ == "__main__":
    main()
