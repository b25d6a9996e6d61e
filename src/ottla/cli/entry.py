"""The way in: ``ottla ...`` and ``python -m ottla``.

A plain ``ottla serve`` goes straight to the broker; everything else, help and mistakes included, is
typer's. Whatever goes wrong, the user reads one line and the shell gets an exit code: 0 done, 1 failed,
2 asked wrongly.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ottla.cli.failures import EXIT_FAILED, EXIT_OK, EXIT_USAGE, CommandFailed, one_line

EXIT_INTERRUPTED = 130
HELP_WIDTH = 100
COMPLETION_VARIABLE = "_OTTLA_COMPLETE"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of ``argv`` (the process's own arguments when None); its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["serve"]:
        from ottla.cli import serve_options

        parsed = serve_options.parse(arguments[1:])
        if parsed is not None:
            from ottla.cli.serve import serve

            return serve(parsed)
    return _run_typer(arguments)


def _run_typer(arguments: list[str]) -> int:
    import os

    if not sys.stdout.isatty():  # help has one width in files and pipes, whatever COLUMNS says
        os.environ.setdefault("TERMINAL_WIDTH", str(HELP_WIDTH))
    from ottla.cli.app import command
    from ottla.errors import KafkaError

    if COMPLETION_VARIABLE in os.environ:  # the shell asks what could come next
        command().main(args=arguments, prog_name="ottla")
    try:
        # Not main(): that would turn a broken pipe and an interrupt into exits of its own.
        with command().make_context("ottla", arguments) as context:
            result = context.command.invoke(context)
        sys.stdout.flush()
    except CommandFailed as error:
        return _fail(one_line(error), error.exit_code)
    except BrokenPipeError:
        return _reader_is_gone()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (KafkaError, OSError) as error:
        return _fail(one_line(error), EXIT_FAILED)
    except Exception as error:
        return _typer_error(error)
    return result if isinstance(result, int) else EXIT_OK


def _typer_error(error: Exception) -> int:
    """The exit code for one of typer's own errors; anything else is a fault and is raised again.

    Typer's parser brings its exceptions along in some versions and takes click's in others, so they are
    known by what they can do.
    """
    if type(error).__name__ == "Exit":
        sys.stdout.flush()
        return int(getattr(error, "exit_code", EXIT_OK))
    if type(error).__name__ == "Abort":
        return _fail("stopped", EXIT_FAILED)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        raise error
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "ottla")
    text = " ".join(str(format_message()).split())
    sys.stderr.write(f"{path}: {text} (see {path} --help)\n")
    return int(getattr(error, "exit_code", EXIT_USAGE))


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"ottla: {text}\n")
    return code


def _reader_is_gone() -> int:
    """Who read our output had enough (``| head``): that is no failure, and nothing is left to say."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
