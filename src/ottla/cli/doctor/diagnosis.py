"""What the doctor says: findings, each with what is wrong, why that matters, and what to do."""

from __future__ import annotations

from typing import NamedTuple

ERROR = "error"
WARNING = "warning"
INFO = "info"

SEVERITIES = (ERROR, WARNING, INFO)


class Diagnosis(NamedTuple):
    """One finding. ``code`` is a word for programs, ``subject`` what it is about."""

    severity: str
    code: str
    subject: str
    what: str
    why: str = ""
    fix: str = ""


class Diagnoses:
    """The findings, in the order in which they were made."""

    def __init__(self) -> None:
        self.all: list[Diagnosis] = []

    def error(self, code: str, subject: str, what: str, why: str = "", fix: str = "") -> None:
        """Something does not work, or will not."""
        self.all.append(Diagnosis(ERROR, code, subject, what, why, fix))

    def warn(self, code: str, subject: str, what: str, why: str = "", fix: str = "") -> None:
        """Something works, and perhaps not as is wanted."""
        self.all.append(Diagnosis(WARNING, code, subject, what, why, fix))

    def info(self, code: str, subject: str, what: str, why: str = "", fix: str = "") -> None:
        """Worth knowing."""
        self.all.append(Diagnosis(INFO, code, subject, what, why, fix))

    def count(self, severity: str) -> int:
        """How many there are of one severity."""
        return sum(item.severity == severity for item in self.all)
