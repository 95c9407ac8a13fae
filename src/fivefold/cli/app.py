"""The `fivefold` command: its list of commands, and how errors end it.

Exit status 0 when all went well, 2 for bad input, 1 for a failure, 130 when interrupted.
"""

from __future__ import annotations

import sys

import typer

from fivefold.core.errors import FivefoldError

from . import benchmarks, generate, models, quality
from .terminal import app

COMMANDS = (models, generate, quality, benchmarks)
"""The modules whose commands `app` has, in the order of its help."""


def main() -> None:
    """Run the command line and end the process."""
    try:
        app()
    except FivefoldError as error:
        typer.echo(f"fivefold: {error.line()}", err=True)
        sys.exit(error.status)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
