"""Reading configs: what all families share. A family says which keys it knows and what they mean to it."""

from .harmless import HARMLESS_KEYS
from .keys import Keys
from .rope_parameters import ROPE_KEYS, read_rope
from .tensors import refuse_unused, require_tensor

__all__ = ["HARMLESS_KEYS", "ROPE_KEYS", "Keys", "read_rope", "refuse_unused", "require_tensor"]
