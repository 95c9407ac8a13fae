"""fivefold: inference of language models, in five kinds of saving that multiply.

This file is the package's name and version and nothing more: every room below it can be imported
alone, so `import fivefold` loads no compiled code. The map of the rooms is ARCHITECTURE.md.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
