"""Command line: words for people."""
