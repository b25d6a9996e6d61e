"""Help texts: written with line breaks in the source, shown with the terminal's own."""

from __future__ import annotations

import textwrap


def manual(text: str) -> str:
    """``text`` with each paragraph on one line, but for indented ones (examples), which stay as they are.

    Brackets are escaped, because rich would take them for markup.
    """
    paragraphs: list[str] = []
    for paragraph in textwrap.dedent(text).strip("\n").split("\n\n"):
        if paragraph.startswith("  "):
            lines = "\n".join(line.rstrip() for line in paragraph.splitlines())
            paragraphs.append(f"\b\n{lines}")
        else:
            paragraphs.append(" ".join(paragraph.split()))
    return "\n\n".join(paragraphs).replace("[", "\\[")
