"""Help texts: written with line breaks in the source, shown with the terminal's own."""

from __future__ import annotations

import textwrap

EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 asked wrongly."
"""Said by every command that says nothing else of them."""

_EXAMPLES = "Examples:\n"


def manual(text: str) -> str:
    """``text`` with each paragraph on one line, but for indented ones (examples), which stay as they are.

    A text without exit codes gets the usual ones, before its examples. Brackets are escaped, because rich would take them for markup.
    """
    text = textwrap.dedent(text)
    if EXIT_CODES.partition(":")[0] not in text and _EXAMPLES in text:
        text = text.replace(_EXAMPLES, f"{EXIT_CODES}\n\n{_EXAMPLES}", 1)
    paragraphs: list[str] = []
    for paragraph in text.strip("\n").split("\n\n"):
        if paragraph.startswith("  "):
            lines = "\n".join(line.rstrip() for line in paragraph.splitlines())
            paragraphs.append(f"\b\n{lines}")
        else:
            paragraphs.append(" ".join(paragraph.split()))
    return "\n\n".join(paragraphs).replace("[", "\\[")
