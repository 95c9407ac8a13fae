"""What a model is made of, what it takes, and what of it will be refused, with the reason; no weight is read.

A model that cannot be run is described as far as its file goes: the reasons are part of the answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fivefold.chat import ChatTemplate, dialect_for
from fivefold.core.checkpoint import CHAT_TEMPLATE, Checkpoint
from fivefold.core.errors import FivefoldError
from fivefold.core.vocabulary import Vocabulary
from fivefold.executor import choose_isa
from fivefold.files import open_checkpoint, vocabulary_of
from fivefold.formats import ENTRY_FORMATS
from fivefold.models import load_model
from fivefold.plan import step_cost
from fivefold.program import Model

from .need import LONGEST_CONTEXT, measured
from .options import LoadOptions

Object = dict[str, Any]
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def inspect_model(path: Path) -> Object:
    """Figures with stable names; FileError if the file cannot even be opened.

    `formats_by_part` has one row for all layers' tensors of a name; `refused` has a line for each thing that
    will not work.
    """
    checkpoint = open_checkpoint(path)
    refused: list[str] = []
    told: Object = {"path": str(path), "architecture": _architecture(checkpoint)}
    model = _tried(refused, lambda: load_model(checkpoint))
    if model is not None:
        told |= _shape(model)
        _tried(refused, lambda: measured(model, checkpoint, LoadOptions()))
    by_format: Counter[str] = Counter()
    by_part: dict[str, Counter[str]] = {}
    for tensor in checkpoint.tensors.values():
        by_format[tensor.format] += tensor.stored_bytes
        by_part.setdefault(_NUMBER.sub("*", tensor.name), Counter())[tensor.format] += tensor.stored_bytes
    told["bytes"] = sum(by_format.values())
    told["bytes_by_format"] = dict(by_format)
    told["formats_by_part"] = {part: dict(formats) for part, formats in by_part.items()}
    if model is not None:
        told |= _costs(model, checkpoint) | _left_out(model, checkpoint)
    vocabulary = _tried(refused, lambda: vocabulary_of(checkpoint))
    return {**told, **_talk(checkpoint, vocabulary, refused), "kernels": choose_isa(), "refused": refused}


def _tried(refused: list[str], work: Callable[[], Any]) -> Any:
    """What the work gives; None where it refuses, and its reason among the others."""
    try:
        return work()
    except FivefoldError as error:
        refused.append(error.line())
        return None


def _architecture(checkpoint: Checkpoint) -> str:
    """What the file calls itself."""
    key = "general.architecture" if checkpoint.kind == "gguf" else "architectures"
    value = checkpoint.metadata.get(key)
    named = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return named[:200]


def _shape(model: Model) -> Object:
    shape = model.shape
    return {
        "family": shape.family,
        "layers": shape.layers,
        "hidden": shape.hidden,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_size": shape.head_size,
        "ffn": shape.ffn,
        "vocabulary": shape.vocabulary,
        "context": shape.context,
    }


def _costs(model: Model, checkpoint: Checkpoint) -> Object:
    """Bytes of cache entries and of a step, and the least memory that a server needs for the model."""
    entries = {
        name: int(model.layout.entry_bytes(form.number_bytes, form.scale_bytes))
        for name, form in ENTRY_FORMATS.items()
    }
    stored = {tensor.name: float(tensor.stored_bytes) for tensor in checkpoint.tensors.values()}
    decode = step_cost(model.main, stored, rows=1, depth=0)
    context = min(model.shape.context, LONGEST_CONTEXT)
    states = int(model.layout.state_bytes())
    return {
        **({"state_bytes_a_sequence": states} if states else {}),
        "cache_bytes_a_token": entries["f16"],
        "cache_bytes_by_format": entries,
        "context_cache_bytes": context * entries["f16"],
        "decode_weight_bytes": int(decode.weight_bytes),
        "decode_flops": int(decode.flops),
    }


def _left_out(model: Model, checkpoint: Checkpoint) -> Object:
    """Bytes of the parts of the files that the model does without, by the beginning of their names."""
    parts: Counter[str] = Counter()
    used = {name for program in model.programs.values() for name in program.tensors}
    for tensor in checkpoint.tensors.values():
        for part in model.left_out:
            if tensor.name.startswith(part) and tensor.name not in used:
                parts[part] += tensor.stored_bytes
    return {"left_out": dict(parts)} if parts else {}


def _talk(checkpoint: Checkpoint, vocabulary: Vocabulary | None, refused: list[str]) -> Object:
    """The tokenizer, the chat template and the dialect of tool calls."""
    source = checkpoint.metadata.get(CHAT_TEMPLATE)
    template = source if isinstance(source, str) else None
    told: Object = {"template_characters": len(template or ""), "tool_dialect": dialect_for(template).name}
    if vocabulary is None:
        return told
    _tried(refused, lambda: ChatTemplate.of(checkpoint, vocabulary))
    ends = [vocabulary.decode([token], skip_special=False) for token in vocabulary.end_tokens]
    return {**told, "tokens": vocabulary.size, "end_tokens": ends}
