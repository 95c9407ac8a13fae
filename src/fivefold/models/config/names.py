"""What weights are called in the two kinds of checkpoint.

A Program names its weights as the opened file does. Families speak of a block's weights by GGUF's words,
which are short and the same for all; a Hugging Face folder has its own words for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Names:
    """How a kind of checkpoint calls a family's weights; `parts` maps GGUF's words for a block's."""

    embedding: str
    norm: str
    head: str
    block: str
    parts: Mapping[str, str]

    def weight(self, layer: int, part: str, kind: str = "weight") -> str:
        """The name of one weight, or bias, of a block."""
        return f"{self.block}.{layer}.{self.parts.get(part, part)}.{kind}"

    def but(self, **parts: str) -> Names:
        """The same with other words for some parts."""
        return Names(self.embedding, self.norm, self.head, self.block, {**self.parts, **parts})


GGUF_NAMES = Names("token_embd.weight", "output_norm.weight", "output.weight", "blk", {})
JSON_NAMES = Names(
    "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.layers",
    {
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    },
)  # fmt: skip
FACTORS = "rope_freqs.weight"
"""The tensor of GGUF files that divides the rotary frequencies."""

QKV = frozenset({"attn_q", "attn_k", "attn_v"})
ATTENTION, FEED_FORWARD = QKV | {"attn_output"}, frozenset({"ffn_gate", "ffn_up", "ffn_down"})
"""The parts of a block that may have a bias."""
