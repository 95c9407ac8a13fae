"""What a tensor is to a quantizer, by its name and shape alone: no family has to be known for that.

Matrices that rows are multiplied with are quantized, and stacks of those of experts; so are the table of
embeddings and the head, which recipes may treat apart. All else stays as it is stored: norms, biases, rotary
frequencies, convolutions, and the small matrices that choose experts, whose errors change which experts
answer (llama.cpp's quantizer leaves those too).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from fivefold.core.checkpoint import Tensor

Role = Literal["matrix", "experts", "embedding", "head", "rest"]

EMBEDDINGS = frozenset({"token_embd.weight", "model.embed_tokens.weight"})
HEADS = frozenset({"output.weight", "lm_head.weight"})

_APART = re.compile(
    r".*norm.*|.*\.ffn_gate_inp(_shexp)?\.weight|.*\.(mlp\.gate|block_sparse_moe\.gate|router|shared_expert_gate)\.weight"
    r"|.*conv1?d?\.weight|rope_(freqs|factors).*|.*(position_embd|token_types)\.weight|.*rotary.*|.*attn_rel_b\.weight"
)


def role_of(tensor: Tensor) -> Role:
    """The role of a tensor of a GGUF file or a Hugging Face folder."""
    if not tensor.name.endswith(".weight") or len(tensor.shape) not in (2, 3) or 0 in tensor.shape:
        return "rest"
    if len(tensor.shape) == len(("experts", "rows", "columns")):
        return "rest" if _APART.fullmatch(tensor.name) else "experts"
    if tensor.name in EMBEDDINGS:
        return "embedding"
    if tensor.name in HEADS:
        return "head"
    return "rest" if _APART.fullmatch(tensor.name) else "matrix"


def is_tied(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the table of embeddings is the head too."""
    return not HEADS & tensors.keys()
