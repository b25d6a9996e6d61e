"""How commands show what they found: a table for people, JSON for programs.

On a terminal the table is drawn by rich; into a pipe it is plain columns, never cut off, one row a line,
so that ``awk`` and ``grep`` work on it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TextIO


class Output(StrEnum):
    """What ``-o`` chooses from."""

    table = "table"
    json = "json"


class Column:
    """A column: its JSON name, its heading, and whether it holds numbers."""

    __slots__ = ("heading", "name", "numeric")

    def __init__(self, name: str, heading: str | None = None, *, numeric: bool = False) -> None:
        self.name = name
        self.heading = heading if heading is not None else name.replace("_", " ")
        self.numeric = numeric


Row = dict[str, object]


def show_rows(
    rows: Sequence[Row], columns: Sequence[Column], output: Output, *, title: str | None = None
) -> None:
    """Write rows to standard output. JSON holds every entry of a row, a table the columns' ones."""
    if output is Output.json:
        show_json(list(rows))
        return
    cells = [[_cell(row.get(column.name)) for column in columns] for row in rows]
    if sys.stdout.isatty():
        _draw(cells, columns, title)
    else:
        _print_plain(cells, columns, sys.stdout, title)


def show_json(value: object) -> None:
    """Write ``value`` to standard output as indented JSON."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def say(text: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Write a line to standard error: what is for the user and not part of the output."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return " ".join(str(value).split("\n"))


def _draw(cells: list[list[str]], columns: Sequence[Column], title: str | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.numeric else "left",
            overflow="fold",
            no_wrap=column.numeric,
        )
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout, highlight=False).print(table)


def _print_plain(
    cells: list[list[str]], columns: Sequence[Column], stream: TextIO, title: str | None
) -> None:
    headings = [column.heading.upper().replace(" ", "_") for column in columns]
    table = [headings, *cells]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    if title is not None:
        stream.write(title + "\n")
    for row in table:
        parts = [
            cell.rjust(width) if column.numeric else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        stream.write("  ".join(parts).rstrip() + "\n")
