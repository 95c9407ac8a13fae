"""What a model is made of, what it takes, and what of it will be refused, with the reason; no weight is read.

A model that cannot be run is described as far as its file goes: the reasons are part of the answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fivefold.backends import drafter_bytes
from fivefold.chat import ChatTemplate, dialect_for
from fivefold.core.checkpoint import CHAT_TEMPLATE, Checkpoint
from fivefold.core.diffusion import DiffusionRules
from fivefold.core.errors import FivefoldError
from fivefold.core.layout import STEP_ROWS, CacheGroup
from fivefold.core.vocabulary import Vocabulary
from fivefold.executor import choose_isa
from fivefold.files import found_lookahead_module, open_checkpoint, vocabulary_of
from fivefold.formats import ENTRY_FORMATS, EntryFormat
from fivefold.models import left_by_part
from fivefold.plan import step_cost
from fivefold.program import Model, head_of

from .described import TRANSFORMERS, Described, as_loaded, described
from .need import LONGEST_CONTEXT, measured
from .options import LoadOptions
from .servable import allowed

Object = dict[str, Any]
_PLAIN = LoadOptions()
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def inspect_model(path: Path, options: LoadOptions = _PLAIN) -> Object:
    """Figures with stable names; FileError if the file cannot even be opened.

    `formats_by_part` has one row for all layers' tensors of a name; `loaded_*` are the same of what `options`
    make of them; `left`, where there is one, says which parts of the file the model does without; `refused`
    has a line for each thing that will not work.
    """
    stored = open_checkpoint(path)
    checkpoint = as_loaded(stored, options)
    refused: list[str] = []
    told: Object = {"path": str(path), "kind": stored.kind, "architecture": _architecture(stored)}
    found: Described | None = _tried(refused, lambda: described(stored, options))
    if found is not None:
        told |= {"backend": found.backend, **({"notice": found.notice} if found.notice else {})}
        told |= _shape(found.model) | _left(found.model, stored)
        _tried(refused, lambda: measured(found, options))
    told |= _formats(stored)
    told["loaded_format"] = "auto" if options.conversion is None else options.conversion.format
    told |= {f"loaded_{key}": value for key, value in _formats(checkpoint).items()}
    if found is not None:
        told |= _costs(found)
        told |= _evictions(found, stored, refused)
        told["diffusion"] = None if found.model.diffusion is None else _diffusion(found.model.diffusion)
    vocabulary = _tried(refused, lambda: vocabulary_of(stored))
    return {**told, **_talk(stored, vocabulary, refused), "kernels": choose_isa(), "refused": refused}


def _formats(checkpoint: Checkpoint) -> Object:
    """Bytes of all tensors, and by format, in all and part by part."""
    by_format: Counter[str] = Counter()
    by_part: dict[str, Counter[str]] = {}
    for tensor in checkpoint.tensors.values():
        by_format[tensor.format] += tensor.stored_bytes
        by_part.setdefault(_NUMBER.sub("*", tensor.name), Counter())[tensor.format] += tensor.stored_bytes
    return {
        "bytes": sum(by_format.values()),
        "bytes_by_format": dict(by_format),
        "formats_by_part": {part: dict(formats) for part, formats in by_part.items()},
    }


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


def _left(model: Model, checkpoint: Checkpoint) -> Object:
    """What of the file is left knowingly, in one line; nothing where all of it is read."""
    if not model.left:
        return {}
    stored = sum(checkpoint.tensors[name].stored_bytes for name in model.left)
    parts = ", ".join(f"{part} {count}" for part, count in left_by_part(model.left).items())
    return {"left": f"{len(model.left)} tensors of {stored} bytes, which text does not need ({parts})"}


def _costs(found: Described) -> Object:
    """Bytes of cache entries and of a step, and the least memory that a server needs for the model.

    Without a Program, only what is known without one.
    """
    model = found.model
    context = min(model.shape.context, LONGEST_CONTEXT)
    if found.outline is not None:
        entry = int(model.layout.entry_bytes(found.entries.number_bytes, found.entries.scale_bytes))
        form = found.entries
        kept = model.layout.kept_bytes(context, STEP_ROWS, form.number_bytes, form.scale_bytes)
        return {
            "cache_bytes_a_token": entry,
            "cache_groups": [_group(group, form) for group in model.layout.groups],
            "context_cache_bytes": int(kept),
            "decode_weight_bytes": found.weights,
        }
    entries = {
        name: int(model.layout.entry_bytes(form.number_bytes, form.scale_bytes))
        for name, form in ENTRY_FORMATS.items()
    }
    stored = {tensor.name: float(tensor.stored_bytes) for tensor in found.checkpoint.tensors.values()}
    if found.drafter is not None:
        own = drafter_bytes(found.drafter, head_of(model))
        stored |= {name: float(size) for name, size in own.items()}
    decode = step_cost(model.main, stored, rows=1, depth=0)
    half, states = ENTRY_FORMATS["f16"], int(model.layout.state_bytes())
    return {
        **({"state_bytes_a_sequence": states} if states else {}),
        "cache_bytes_a_token": entries["f16"],
        "cache_bytes_by_format": entries,
        "cache_groups": [_group(group, half) for group in model.layout.groups],
        "context_cache_bytes": int(
            model.layout.kept_bytes(context, STEP_ROWS, half.number_bytes, half.scale_bytes)
        ),
        "decode_weight_bytes": int(decode.weight_bytes),
        "decode_flops": int(decode.flops),
    }


def _evictions(found: Described, stored: Checkpoint, refused: list[str]) -> Object:
    """The lookahead module that the model has, and the evictions that it can be served with."""
    native = found.backend != TRANSFORMERS
    module = _tried(refused, lambda: found_lookahead_module(found.model, stored)) if native else None
    told = None
    if module is not None:
        origin = module.origin
        told = {
            "rows": module.rows,
            "rank": module.rank,
            "matrices": len(module.pairs),
            "trained_for": origin.model,
            "steps": origin.steps,
            "prompt_tokens": list(origin.lengths),
        }
    return {
        **_drafter(found),
        "ngrams": _ngrams(found),
        "lookahead": told,
        "evictions": list(allowed(found.model, native, module)),
    }


def _drafter(found: Described) -> Object:
    """The side drafter that the model has."""
    if found.drafter is None:
        return {"drafter": None}
    shape, origin = found.drafter.shape, found.drafter.origin
    own = drafter_bytes(found.drafter, head_of(found.model))
    told = {
        "form": shape.form, "layers": shape.layers, "slots": shape.slots, "taps": list(shape.taps),
        "tokens": shape.vocabulary, "bytes": sum(own.values()),
        "trained_for": origin.model, "steps": origin.steps, "trained_tokens": origin.tokens,
    }  # fmt: skip
    return {"drafter": told}


def _ngrams(found: Described) -> Object | None:
    """The table of n-grams that the model has."""
    table = found.ngrams
    if table is None:
        return None
    origin = table.origin
    return {
        "orders": table.orders, "entries": len(table.keys), "trained_for": origin.model,
        "trained_tokens": origin.tokens,
    }  # fmt: skip


def _diffusion(rules: DiffusionRules) -> Object:
    """How a diffusion model is decoded where a request says nothing else."""
    return {
        "rows_see": rules.sight,
        "block": rules.block,
        "sub_block": rules.sub_block,
        "mask_token": rules.mask_token,
        "shifted": rules.shifted,
        "denoiser": rules.denoiser,
        "numbers": dict(rules.numbers),
    }


def _group(group: CacheGroup, form: EntryFormat) -> Object:
    """Layers that share page tables: bytes of a token, and the tokens that a row of them sees."""
    return {
        "name": group.name,
        "layers": len(group.layers),
        "kv_heads": group.kv_heads,
        "window": group.window,
        "bytes_a_token": int(group.entry_bytes(form.number_bytes, form.scale_bytes)),
    }


def _talk(checkpoint: Checkpoint, vocabulary: Vocabulary | None, refused: list[str]) -> Object:
    """The tokenizer, the chat template, and the dialects of tool calls and of reasoning."""
    source = checkpoint.metadata.get(CHAT_TEMPLATE)
    template = source if isinstance(source, str) else None
    dialect = dialect_for(template)
    told: Object = {
        "template": _template(checkpoint, template),
        "template_characters": len(template or ""),
        "tool_dialect": dialect.name,
        "reasoning_dialect": dialect.name if dialect.reasons else None,
    }
    if vocabulary is None:
        return told
    _tried(refused, lambda: ChatTemplate.of(checkpoint, vocabulary))
    ends = [vocabulary.decode([token], skip_special=False) for token in vocabulary.end_tokens]
    return {**told, "tokens": vocabulary.size, "end_tokens": ends}


def _template(checkpoint: Checkpoint, template: str | None) -> str | None:
    """Where the chat template stands; None if there is none."""
    if template is None:
        return None
    return CHAT_TEMPLATE if checkpoint.kind == "gguf" else "of the folder"
