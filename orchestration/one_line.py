"""Commands that end in one clear line on stderr, whatever goes wrong."""

import contextlib
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from orchestration.settings import Settings, SettingsError

LONGEST = 500


class OneLineGroup(TyperGroup):
    """A group of commands of which none ends in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what it did not foresee goes to the home's log."""
        try:
            return super().invoke(ctx)
        except typer.Abort:
            raise
        except Exception as error:
            # the command line's own, which words itself
            if hasattr(error, "exit_code"):
                raise
            if not isinstance(error, SettingsError | OSError):
                keep_traceback(error)
            typer.echo(f"rekindle: {describe(error)}", err=True)
            raise typer.Exit(1) from None


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
