"""Backends: who runs a step. One Runner protocol, in `core.runner`."""

from .native import NativeRunner, ReferenceRunner, pages_for

__all__ = ["NativeRunner", "ReferenceRunner", "pages_for"]
