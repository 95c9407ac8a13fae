"""Programs: a model's forward pass as data, how one is recorded, and the reference executor."""

from .builder import Builder, Routing
from .drafting import (
    head_of,
    packed_form,
    packed_weight,
    tap_buffers,
    turning_of,
    weight_name,
    with_drafter,
)  # fmt: skip
from .memory import Memory, plan_memory
from .model import Model
from .program import Buffer, Node, Program
from .reference import ReferenceCache, ReferenceExecutor, ReferenceState, StepOutput, complete
from .rewrite import Conditioning, LowRank, looking_ahead, observed, self_conditioned, split_layers
from .rotary import RopeScaling, inverse_frequencies
from .weight import HeadRows, Source, Weight, of_heads, stacked, taken

__all__ = [
    "Buffer", "Builder", "Conditioning", "HeadRows", "LowRank", "Memory", "Model", "Node", "Program",
    "ReferenceCache", "ReferenceExecutor", "ReferenceState", "RopeScaling", "Routing", "Source",
    "StepOutput", "Weight", "complete", "head_of", "inverse_frequencies", "looking_ahead", "observed",
    "of_heads", "packed_form", "packed_weight", "plan_memory", "self_conditioned", "split_layers",
    "stacked", "taken", "tap_buffers", "turning_of", "weight_name", "with_drafter",
]  # fmt: skip
