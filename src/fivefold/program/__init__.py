"""Programs: a model's forward pass as data, how one is recorded, and the reference executor."""

from .builder import Builder
from .memory import Memory, plan_memory
from .model import Model
from .program import Buffer, Node, Program, Weight
from .reference import ReferenceCache, ReferenceExecutor, ReferenceState, StepOutput
from .rotary import RopeScaling, inverse_frequencies

__all__ = [
    "Buffer", "Builder", "Memory", "Model", "Node", "Program", "ReferenceCache", "ReferenceExecutor",
    "ReferenceState", "RopeScaling", "StepOutput", "Weight", "inverse_frequencies", "plan_memory",
]  # fmt: skip
