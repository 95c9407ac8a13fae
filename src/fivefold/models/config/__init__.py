"""Reading configs: what all families share. A family says which keys it knows and what they mean to it."""

from .harmless import HARMLESS_KEYS
from .keys import TEXT, Keys, config_of, open_keys
from .names import ATTENTION, FACTORS, FEED_FORWARD, GGUF_NAMES, JSON_NAMES, QKV, Names
from .rope_metadata import GGUF_ROPE_KEYS, read_gguf_rope
from .rope_parameters import ROPE_KEYS, read_rope, read_scaling, rope_object
from .sizes import (
    GGUF_SIZE_KEYS,
    JSON_SIZE_KEYS,
    PLAIN_KEYS,
    gguf_biases,
    has_factors,
    read_each,
    read_gguf_shape,
    read_json_shape,
    read_tied,
    require_plain,
    require_sizes,
)
from .tensors import refuse_unused, require_tensor, root_as_stored
from .text_part import OUTER_KEYS, TextPart, TextParts, left_by_part, open_text_part
from .turning import read_turning, turning_layers
from .windows import (
    CHUNKED,
    FULL,
    SLIDING,
    Windows,
    read_gguf_windows,
    read_late_windows,
    read_window,
    read_windows,
)

__all__ = [
    "ATTENTION", "CHUNKED", "FACTORS", "FEED_FORWARD", "FULL", "GGUF_NAMES", "GGUF_ROPE_KEYS",
    "GGUF_SIZE_KEYS", "HARMLESS_KEYS", "JSON_NAMES", "JSON_SIZE_KEYS", "OUTER_KEYS", "PLAIN_KEYS", "QKV",
    "ROPE_KEYS", "SLIDING", "TEXT", "Keys", "Names", "TextPart", "TextParts", "Windows", "config_of",
    "gguf_biases", "has_factors", "left_by_part", "open_keys", "open_text_part", "read_each",
    "read_gguf_rope", "read_gguf_shape", "read_gguf_windows", "read_json_shape", "read_late_windows",
    "read_rope", "read_scaling", "read_tied", "read_turning", "read_window", "read_windows", "refuse_unused",
    "require_plain", "require_sizes", "require_tensor", "root_as_stored", "rope_object", "turning_layers",
]  # fmt: skip
