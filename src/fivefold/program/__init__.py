"""Programs: a model's forward pass as data, and how one is recorded."""

from .builder import Builder
from .program import Buffer, Node, Program, Weight

__all__ = ["Buffer", "Builder", "Node", "Program", "Weight"]
