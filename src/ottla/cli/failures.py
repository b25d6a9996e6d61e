"""Ways for a command to end early, each with its exit code and its one line for the user."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_IN_USE = 3
"""``ottla serve``: another broker has the data directory."""


class CommandFailed(Exception):
    """The command could not do what was asked; its text is one line for the user."""

    exit_code = EXIT_FAILED


class UsageError(CommandFailed):
    """What was asked makes no sense; its text is one line for the user."""

    exit_code = EXIT_USAGE


def one_line(error: BaseException) -> str:
    """An error as one line: what the system says of a file or a socket without Python's decoration."""
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror}"
    text = " ".join(str(error).split())
    return text or type(error).__name__
