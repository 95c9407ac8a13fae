"""The `fivefold` command: its list of commands, and how errors end it.

Exit status 0 when all went well, 2 for bad input, 1 for a failure, 130 when interrupted. What goes
wrong is one line on stderr; a fault of the program itself too, unless Python runs in its
development mode (`python -X dev -m fivefold`), which shows where it happened.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import typer

from fivefold.core.errors import FivefoldError

from . import (
    benchmarks,
    generate,
    models,
    pulled,
    quality,
    quantize,
    serve,
    train,
    train_drafter,
    train_ngrams,
    train_twins,
)
from .terminal import app

COMMANDS = (
    models,
    pulled,
    generate,
    serve,
    quantize,
    train,
    train_drafter,
    train_ngrams,
    train_twins,
    quality,
    benchmarks,
)
"""The modules whose commands `app` has, in the order of its help."""

INTERRUPTED = 130


def main() -> None:
    """Run the command line and end the process."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(status(sys.argv[1:]))


def status(arguments: Sequence[str]) -> int:
    """Run one command and say what went wrong; the exit status."""
    try:
        ended = app(list(arguments) or ["--help"], standalone_mode=False)
    except FivefoldError as error:
        return _failed(error.line(), error.status)
    except typer.TyperException as error:
        return _failed(_usage(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return _unwritable("")
    except OSError as error:
        if error.filename is None:
            return _unwritable(f"cannot read or write ({error.strerror or error}); check the disk")
        return _failed(f"{error.filename}: {error.strerror}; check the path and its permissions", 1)
    except MemoryError:
        return _failed("there is not enough memory; take a smaller model or give a smaller --context", 1)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        what = f"{type(error).__name__}: {error}"
        return _failed(f"a fault of the program ({what}); `python -X dev -m fivefold` shows where", 1)
    return ended if isinstance(ended, int) else 0


def _failed(line: str, ending: int) -> int:
    typer.echo(f"fivefold: {' '.join(line.split())}", err=True)
    return ending


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the options, in one line, and where they are described."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "fivefold"
    return f"{error.format_message().strip().rstrip('.')}; {command} --help lists what there is"


def _unwritable(line: str) -> int:
    """Standard output takes no more: nothing is left for the interpreter's end to write there."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return _failed(line, 1) if line else 1
