"""The terminal application that the modules of this room put their commands into."""

from __future__ import annotations

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run language models on commodity CPUs, and measure what it costs.",
)
