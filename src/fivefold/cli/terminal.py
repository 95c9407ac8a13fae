"""The terminal application that the modules of this room put their commands into, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # texts of help are as they stand: markup would take brackets for styles
    help="Run language models on commodity CPUs, and measure what it costs.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fivefold {version('fivefold')}")
        raise typer.Exit


@app.callback()
def program(
    shown: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """The options of the program itself."""


@contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """Inside, an interrupt ends the process at once with status 130, even in the middle of a step.

    Python raises KeyboardInterrupt only between two steps of the native core, and a step may take
    long. The interpreter notes the signal in a pipe the moment it arrives, and a thread reads that.
    Nothing is left half done: what runs here only reads files and writes to stdout.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    watcher = threading.Thread(target=_watch, args=(reader,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        watcher.join()
        os.close(reader)


def _watch(reader: int) -> None:
    """End the process when an interrupt is noted; return when the other end is closed."""
    while signals := os.read(reader, 64):
        if signal.SIGINT in signals:
            os._exit(128 + signal.SIGINT)
