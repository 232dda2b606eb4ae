"""Commands that end in one clear line on stderr, whatever goes wrong."""

import contextlib
import json
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from orchestration.settings import Settings, SettingsError

LONGEST = 500
FAILED = 1
MISUSED = 2
INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot do what it was asked, said in one line."""


class OneLineGroup(TyperGroup):
    """A group of commands of which none ends in a traceback."""

    def make_context(self, info_name: Any, args: Any, *rest: Any, **extra: Any) -> Any:
        """Read what stands before the command; without any word, it is help."""
        with in_one_line(list(args)) if args else contextlib.nullcontext():
            return super().make_context(info_name, args, *rest, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what it did not foresee goes to the home's log."""
        with in_one_line([*ctx._protected_args, *ctx.args]):
            return super().invoke(ctx)


@contextlib.contextmanager
def in_one_line(words: Sequence[str]) -> Iterator[None]:
    """End in one line on stderr; where `--json` is among the words, as an object too.

    Raises:
        typer.Exit: with the exit code that says whether to mend the command, to see
            what is wrong, or only to run it again.
    """
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt as interrupt:
        end(words, str(interrupt) or "interrupted", INTERRUPTED)
    except Exception as error:
        # the command line's own, which would show itself in several lines
        if hasattr(error, "format_message"):
            context = getattr(error, "ctx", None)
            path = context.command_path if context else "rekindle"
            end(
                words,
                f"{error.format_message().rstrip('.')} (see `{path} --help`)",
                MISUSED,
            )
        if isinstance(error, CommandError):
            end(words, str(error), FAILED)
        if not isinstance(error, SettingsError | OSError):
            keep_traceback(error)
        end(words, describe(error), FAILED)


def end(words: Sequence[str], reason: str, code: int) -> NoReturn:
    """Say why a command ends, to a person and to a program.

    Raises:
        typer.Exit: always.
    """
    reason = " ".join(reason.split())
    if "--json" in words:
        typer.echo(json.dumps({"error": reason}, ensure_ascii=False))
    typer.echo(f"rekindle: {reason}", err=True)
    raise typer.Exit(code) from None


def describe(error: BaseException) -> str:
    """The innermost error in one line, without what a database was given."""
    while error.__cause__:
        error = error.__cause__
    # SQLAlchemy words the statement and its values; the driver's own error does not
    error = getattr(error, "orig", None) or error
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}"
    text = " ".join(str(error).split())[:LONGEST]
    return text or type(error).__name__


def keep_traceback(error: BaseException) -> None:
    """Append where the error came from to the log of runs, if it can be written."""
    with contextlib.suppress(OSError, SettingsError):
        folder = Settings().dagster_home
        if folder.is_dir():
            with (folder / "run.log").open("a") as log:
                traceback.print_exception(error, file=log)
