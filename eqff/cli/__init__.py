"""The command line: one verb per file.  A file has a `command` function, or an `app` (a typer group of sub-verbs).

A verb parses, calls one task and prints.  Heavy packages are imported inside the function, so `eqff --help` is quick.
"""

import os
import signal
import sys
import warnings
from typing import Annotated, Any

import typer

from eqff import registry
from eqff.errors import EqffError, ResourceError

INTERRUPTED, TERMINATED = 130, 143  # what shells call a program stopped by Ctrl-C, and by `kill` or a queue


def build() -> typer.Typer:
    """A typer app with every verb of this folder and of the entry points `eqff.cli`."""
    app = typer.Typer(
        name="eqff",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in registry.names("cli"):
        verb = registry.load("cli", name)
        if hasattr(verb, "app"):
            app.add_typer(verb.app, name=name)
        else:
            app.command(name.replace("_", "-"))(verb.command)
    return app


def main() -> None:
    """Entry point of `eqff`: an error of this package is one line on stderr and its exit code, never a traceback."""
    before = signal.signal(signal.SIGTERM, _terminate)
    safe_before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"  # in child processes, too, the working directory shadows no module
    show_before, warnings.showwarning = warnings.showwarning, _show_warning
    try:
        build()()
    except EqffError as error:
        _show(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as failure:  # a full disk, rights, a name that is too long
        place = f"{failure.filename}: " if failure.filename is not None else ""
        reason = f"{place}{failure.strerror or failure}; check name, rights and space on the disk"
        _show(ResourceError("EQ6201", reason))
        sys.exit(ResourceError.exit_code)
    finally:
        signal.signal(signal.SIGTERM, before)
        if safe_before is None:
            del os.environ["PYTHONSAFEPATH"]
        warnings.showwarning = show_before


def _terminate(number: int, frame: Any) -> None:
    """SIGTERM unwinds the stack like Ctrl-C, so that files are finished."""
    sys.exit(TERMINATED)


def _version(asked: bool) -> None:
    if asked:
        from eqff import __version__

        typer.echo(f"eqff {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Equivariant neural-network force fields: train, export, simulate."""


def _show(error: EqffError) -> None:
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble((f"{type(error).__name__} {error.id}", "bold red"), f": {error.message}")
    Console(stderr=True).print(line, soft_wrap=True)


def _show_warning(message: Warning | str, *place: Any, **more: Any) -> None:
    """Print the text of a warning, without Python file and line."""
    sys.stderr.write(f"warning: {message}\n")  # what rich puts there while a progress bar is shown
