"""Backends: who runs a step. One Runner protocol, in `core.runner`."""

from .native import NativeRunner, ReferenceRunner

__all__ = ["NativeRunner", "ReferenceRunner"]
