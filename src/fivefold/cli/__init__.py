"""Command line: words for people. Each command has `--json`; errors go to stderr with a remedy."""

from __future__ import annotations

import importlib
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process. Ctrl-C counts while the rooms are loaded, too."""
    try:
        run = importlib.import_module(f"{__name__}.app").main
    except KeyboardInterrupt:
        sys.exit(130)
    run()
