"""Command line: words for people. Each command has `--json`; errors go to stderr with a remedy."""

from .app import main

__all__ = ["main"]
