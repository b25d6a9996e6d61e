"""Writes ``docs/compatibility.md`` from what the program itself knows.

    python -m tools.compatibility           write it
    python -m tools.compatibility --check   fail if it is out of date

Sources: the registry of APIs against ``docs/data/kafka-apis.json`` (Kafka's own version ranges); the definitions of
settings; ``tests/interop/clients.toml`` and the versions that its entries point at; ``docs/data/differences.toml``
(by hand); ``tests/interop/answers/known.py`` (every difference that the comparison with Apache Kafka lets stand).
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ottla.messages.registry import API_NAMES, API_VERSIONS_RANGES
from ottla.settings.broker_settings import BROKER_SETTINGS, OUR_DEFAULTS, documentation
from ottla.settings.known import KNOWN_PREFIXES, KNOWN_TO_KAFKA
from ottla.settings.setting import READ_ONLY, Setting, to_text
from ottla.settings.topic_settings import TOPIC_SETTINGS

ROOT = Path(__file__).parent.parent
PAGE = Path("docs/compatibility.md")
KAFKA_APIS = Path("docs/data/kafka-apis.json")
DIFFERENCES = Path("docs/data/differences.toml")
CLIENTS = Path("tests/interop/clients.toml")
ANSWERS = "tests/interop/answers/known.py"

ABSENT = "no"
NOTES = {
    0: "batches of format 2; transactional ones are refused",
    4: "between the brokers of a cluster",
    5: "between the brokers of a cluster",
    6: "between the brokers of a cluster",
    7: "between the brokers of a cluster",
    56: "between the brokers of a cluster",
    67: "between the brokers of a cluster",
    10: "groups; a transactional id is refused",
    18: "version 5 (KIP-1242) is newer than the release",
    22: "without a transactional id",
    29: "SECURITY_DISABLED: there are no ACLs",
    30: "SECURITY_DISABLED: there are no ACLs",
    31: "SECURITY_DISABLED: there are no ACLs",
    38: "DELEGATION_TOKEN_AUTH_DISABLED",
    39: "DELEGATION_TOKEN_AUTH_DISABLED",
    40: "DELEGATION_TOKEN_AUTH_DISABLED",
    41: "DELEGATION_TOKEN_AUTH_DISABLED",
    42: "version 3 is newer than the release",
    49: "refused: there are no quotas",
    51: "refused: there is no SASL",
    57: "refused: there are no features to update",
    65: "there are none",
    66: "there are none",
    71: "offered while there is a subscription",
    72: "offered while there is a subscription",
}
MISSING = {
    17: "no SASL yet",
    36: "no SASL yet",
    24: "no transactions yet",
    25: "no transactions yet",
    26: "no transactions yet",
    27: "no transactions yet",
    28: "no transactions yet",
    55: "no KRaft",
    64: "no KRaft",
    80: "no KRaft",
    81: "no KRaft",
    68: "groups are classic (KIP-848)",
    69: "groups are classic (KIP-848)",
    34: "a partition stays in the directory that it was made in",
}


def text() -> str:
    """The whole page."""
    lines = [
        "# Compatibility",
        "",
        "What Ottla speaks of Apache Kafka's protocol, which settings it knows, which clients and tools are run",
        "against it, and where it differs. Written by `python -m tools.compatibility` from the program itself; a",
        "test fails when it is out of date.",
        "",
        *_apis(),
        *_topic_settings(),
        *_broker_settings(),
        *_clients(),
        *_differences(),
        *_answers(),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _apis() -> Iterator[str]:
    found = json.loads((ROOT / KAFKA_APIS).read_text())
    yield f"## APIs\n\nVersions of Apache Kafka {found['kafka']} and of Ottla. APIs of KRaft controllers are left out."
    yield "\n| key | API | Kafka | Ottla | |\n|---:|---|---|---|---|"
    for row in found["apis"]:
        key, theirs = row["key"], row["versions"]
        if key in API_VERSIONS_RANGES:
            low, high = API_VERSIONS_RANGES[key]
            ours = f"{low}-{high}" if low != high else f"{low}"
        elif row["listeners"] == ["controller"] or (theirs == "none" and key not in API_NAMES):
            continue
        else:
            ours = ABSENT
        note = NOTES.get(key, "") if ours != ABSENT else MISSING.get(key, _missing(row["name"]))
        yield f"| {key} | {row['name']} | {theirs if theirs != 'none' else 'until 3.9'} | {ours} | {note} |"
    yield ""


def _missing(name: str) -> str:
    if "Share" in name:
        return "no share groups"
    return "no streams groups" if "Streams" in name else ""


def _topic_settings() -> Iterator[str]:
    yield "## Topic settings\n\nNames, types and defaults of Kafka 3.9; a name that is not here is refused."
    yield "\n| setting | default | |\n|---|---|---|"
    for name, setting in TOPIC_SETTINGS.items():
        yield f"| `{name}` | {_default(setting)} | {_kept(setting.doc)} |"
    yield ""


def _kept(doc: str) -> str:
    """The description; what is stored without effect is said in front."""
    before, mark, after = doc.partition("Kept")
    if not mark:
        return _cell(doc)
    why = after.lstrip(":, ").rstrip(".")
    return f"**Stored without effect**{': ' + _cell(why) if why else ''}. {_cell(before.strip())}"


def _broker_settings() -> Iterator[str]:
    yield "## Broker settings\n"
    yield "Implemented, with Kafka's defaults where nothing else is said. Those marked with a d can be altered while the"
    yield "broker runs.\n\n| setting | | default | |\n|---|---|---|---|"
    for name, setting in BROKER_SETTINGS.items():
        dynamic = "" if setting.update == READ_ONLY else "d"
        own = f"**Differs:** {_cell(OUR_DEFAULTS[name])}. " if name in OUR_DEFAULTS else ""
        yield f"| `{name}` | {dynamic} | {_default(setting)} | {own}{_kept(documentation(setting))} |"
    unused = ", ".join(f"`{name}`" for name in sorted(KNOWN_TO_KAFKA))
    prefixes = ", ".join(f"`{name}`" for name in KNOWN_PREFIXES)
    yield f"\nTaken with a warning, and without effect: {unused}; and what begins with {prefixes}."
    yield "\nEvery other name is an error, with the name that was perhaps meant.\n"


def _default(setting: Setting) -> str:
    shown = _cell(to_text(setting.default))
    return f"`{shown}`" if shown else "none"


def _clients() -> Iterator[str]:
    yield "## Clients and tools that are run against it\n\n| client | version | what is run | known limits |\n|---|---|---|---|"
    for client in tomllib.loads((ROOT / CLIENTS).read_text())["client"]:
        yield f"| {client['name']} | {_version(client)} | {_cell(client['run'])} | {_cell(client.get('limits', ''))} |"
    yield ""


def _version(client: dict[str, Any]) -> str:
    if "debian" in client:
        return f"Debian's `{client['debian']}`"
    if "version" in client:
        return str(client["version"])
    path, _, pattern = client["from"].partition(":")
    found = re.search(pattern, (ROOT / path).read_text())
    if found is None:
        raise SystemExit(f"{CLIENTS}: {client['name']}: {path} has nothing that matches {pattern}")
    return f"{found[1]} and newer" if client.get("at_least") else found[1]


def _differences() -> Iterator[str]:
    yield "## Where it differs from Apache Kafka\n"
    for subject in tomllib.loads((ROOT / DIFFERENCES).read_text())["subject"]:
        yield f"### {subject['name']}\n"
        yield from (f"- {item}" for item in subject["differences"])
        yield ""


def _answers() -> Iterator[str]:
    from tests.interop.answers.known import DIFFERENCES as KNOWN

    yield "### Answers\n"
    yield f"Both brokers are asked the same questions by a test. These are all the places ([{ANSWERS}](../{ANSWERS})) where"
    yield "they answer otherwise; numbers are Kafka's error codes.\n"
    yield "| asked | where | Ottla | Kafka | why |\n|---|---|---|---|---|"
    for item in KNOWN:
        yield (
            f"| {item.question.partition('.')[2].replace('_', ' ')} | `{_cell(item.place)}` | "
            f"`{_cell(item.ours)}` | `{_cell(item.theirs)}` | {_cell(item.reason)} |"
        )


def _cell(content: str) -> str:
    return content.replace("|", "\\|").replace("\n", " ")


def main() -> int:
    """Write the page, or with --check compare it."""
    if "--check" in sys.argv[1:]:
        if (ROOT / PAGE).read_text() == text():
            return 0
        sys.stderr.write(f"{PAGE} is out of date: make docs\n")
        return 1
    (ROOT / PAGE).write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
