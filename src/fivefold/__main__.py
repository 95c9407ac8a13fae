"""`python -m fivefold`: the same program as the `fivefold` command."""

from __future__ import annotations

from fivefold.cli import main

if __name__ == "__main__":
    main()
