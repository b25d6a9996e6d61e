"""Writes ``docs/cli.md`` and the man pages in ``docs/man`` from the commands' own help.

    python tools/cli_reference.py           write them
    python tools/cli_reference.py --check   say what is out of date, and fail if anything is

The help texts are the one source: a test holds the files against them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from ottla.cli.app import command
from ottla.cli.version import VERSION

ROOT = Path(__file__).parent.parent
MARKDOWN = Path("docs/cli.md")
MAN = Path("docs/man")
ENVIRONMENT = {
    "OTTLA_BOOTSTRAP": "The brokers to ask, as HOST:PORT,..., where -b is not given.",
    "OTTLA_LOG_LEVEL": "How much ottla serve logs: DEBUG, INFO, WARNING, ERROR or CRITICAL.",
    "OTTLA_<SETTING>": "A setting of the broker for ottla serve and ottla doctor: OTTLA_LOG_RETENTION_MS is "
    "log.retention.ms.",
    "KAFKA_<SETTING>": "The same by the name that Kafka's container images give it; weaker than OTTLA_....",
}


class Option(NamedTuple):
    """An option or an argument: how it is written, and what it does."""

    flags: str
    text: str
    panel: str


class Page(NamedTuple):
    """One command."""

    path: tuple[str, ...]
    summary: str
    synopsis: str
    paragraphs: list[str]
    exit_codes: str
    examples: list[str]
    arguments: list[Option]
    options: list[Option]
    commands: list[tuple[str, str]]

    @property
    def name(self) -> str:
        """The command as it is typed."""
        return " ".join(self.path)


def pages() -> Iterator[Page]:
    """Every command, the root first."""
    yield from _walk(command(), ("ottla",))


def _walk(found: Any, path: tuple[str, ...]) -> Iterator[Page]:
    below = dict(sorted(getattr(found, "commands", {}).items()))
    yield _page(found, path, below)
    for name, one in below.items():
        yield from _walk(one, (*path, name))


def _page(found: Any, path: tuple[str, ...], below: dict[str, Any]) -> Page:
    paragraphs: list[str] = []
    examples: list[str] = []
    exit_codes = "0 done, 1 failed, 2 asked wrongly."
    for paragraph in (found.help or "").replace("\\[", "[").split("\n\n"):
        if paragraph.startswith("\b\n"):
            examples += [line.strip() for line in paragraph[2:].splitlines()]
        elif paragraph.startswith("Exit codes: "):
            exit_codes = paragraph.removeprefix("Exit codes: ")
        elif paragraph != "Examples:":
            paragraphs.append(paragraph)
    arguments = [_option(one) for one in found.params if one.param_type_name == "argument"]
    options = [
        _option(one)
        for one in found.params
        if one.param_type_name == "option" and one.name != "help"
    ]
    options.append(Option("-h, --help", "Show help and exit.", ""))
    words = [" ".join(path), "[OPTIONS]", *(one.flags for one in arguments)]
    if below:
        words.append("COMMAND ...")
    summary = paragraphs[0].partition(". ")[0].rstrip(".:") if paragraphs else ""
    return Page(
        path,
        summary,
        " ".join(words),
        paragraphs,
        exit_codes,
        examples,
        arguments,
        options,
        [(name, _summary(one)) for name, one in below.items()],
    )


def _summary(found: Any) -> str:
    return (found.help or "").split("\n\n")[0].replace("\\[", "[").partition(". ")[0].rstrip(".:")


def _option(one: Any) -> Option:
    if one.param_type_name == "argument":
        name = one.metavar or one.name.upper()
        flags = f"{name}..." if one.nargs == -1 else name
        return Option(flags if one.required else f"[{flags}]", one.help or "", "")
    flags = ", ".join(sorted(one.opts, key=len))
    if not one.is_flag:
        flags += f" {_metavar(one)}"
    text = one.help or ""
    default = one.default.value if isinstance(one.default, Enum) else one.default
    if default not in (None, False, [], ()) and one.show_default and not one.is_flag:
        text += f" (default: {default})"
    if one.envvar:
        text += f" (environment: {one.envvar})"
    return Option(flags, text, getattr(one, "rich_help_panel", None) or "")


def _metavar(one: Any) -> str:
    if one.metavar:
        return str(one.metavar)
    if isinstance(one.default, Enum):
        return "|".join(str(choice.value) for choice in type(one.default))
    return "TEXT"


def markdown() -> str:
    """The reference as one page."""
    lines = [
        "# The command",
        "",
        "Every command with its options, as `ottla COMMAND --help` and the man pages in [man](man) have it.",
        "Written by `python tools/cli_reference.py`; a test holds it against the help.",
    ]
    for page in pages():
        lines += ["", f"## {page.name}", "", "```text", page.synopsis, "```"]
        for paragraph in page.paragraphs:
            lines += ["", _escape(paragraph)]
        if page.examples:
            lines += ["", "```console", *(f"$ {line}" for line in page.examples), "```"]
        if page.commands:
            lines += ["", "| command | |", "|---|---|"]
            lines += [f"| `{name}` | {_cell(text)} |" for name, text in page.commands]
        if page.arguments or page.options:
            lines += ["", "| | |", "|---|---|"]
            lines += [
                f"| `{_cell(one.flags)}` | {_cell(_escape(one.text))} |"
                for one in (*page.arguments, *page.options)
            ]
        lines += ["", f"Exit codes: {page.exit_codes}"]
    lines += ["", "## Environment", "", "| variable | |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(text)} |" for name, text in ENVIRONMENT.items()]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("<", "\\<").replace("*", "\\*")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def man(page: Page) -> str:
    """One command's man page."""
    title = "-".join(page.path)
    lines = [
        f'.TH {title.upper()} 1 "" "ottla {VERSION}" "Ottla"',
        ".SH NAME",
        f"{title} \\- {_roff(page.summary[:1].lower() + page.summary[1:])}",
        ".SH SYNOPSIS",
        f".B {_roff(page.synopsis)}",
        ".SH DESCRIPTION",
    ]
    for paragraph in page.paragraphs:
        lines += [_roff(paragraph), ".PP"]
    lines.pop()
    for heading, options in _panels(page):
        lines.append(f".SH {heading.upper()}")
        for one in options:
            lines += [".TP", f".B {_roff(one.flags)}", _roff(one.text)]
    if page.commands:
        lines.append(".SH COMMANDS")
        for name, text in page.commands:
            lines += [".TP", f".BR {title}-{name} (1)", _roff(text) + "."]
    lines += [".SH EXIT STATUS", _roff(page.exit_codes), ".SH ENVIRONMENT"]
    for name, text in ENVIRONMENT.items():
        lines += [".TP", f".B {_roff(name)}", _roff(text)]
    if page.examples:
        lines += [".SH EXAMPLES", ".nf", *(_roff(line) for line in page.examples), ".fi"]
    if len(page.path) > 1:
        lines += [".SH SEE ALSO", f".BR {'-'.join(page.path[:-1])} (1)"]
    return "\n".join(lines) + "\n"


def _panels(page: Page) -> Iterator[tuple[str, list[Option]]]:
    if page.arguments:
        yield "Arguments", page.arguments
    for panel in dict.fromkeys(one.panel for one in page.options):
        yield panel or "Options", [one for one in page.options if one.panel == panel]


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def files() -> dict[Path, str]:
    """Every file by its path below the project's root."""
    return {
        MARKDOWN: markdown(),
        **{MAN / f"{'-'.join(page.path)}.1": man(page) for page in pages()},
    }


def stale(root: Path = ROOT) -> list[str]:
    """The files that are not what the help says, and man pages of commands that are gone."""
    wanted = files()
    result = [
        str(path)
        for path, text in wanted.items()
        if not (root / path).exists() or (root / path).read_text() != text
    ]
    there = {path.relative_to(root) for path in (root / MAN).glob("*.1")}
    return result + [f"{path} (no such command)" for path in sorted(there - set(wanted))]


def main() -> int:
    """Write the files, or with --check compare them."""
    if "--check" in sys.argv[1:]:
        for path in stale():
            sys.stderr.write(f"{path} is out of date: make docs\n")
        return 1 if stale() else 0
    (ROOT / MAN).mkdir(parents=True, exist_ok=True)
    for old in (ROOT / MAN).glob("*.1"):
        old.unlink()
    for path, text in files().items():
        (ROOT / path).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
