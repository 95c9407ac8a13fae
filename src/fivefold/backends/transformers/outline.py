"""A model of Transformers as its folder describes it, made without weights: sizes, cache layout, bytes.

The model is built on torch's meta device, where tensors have shapes and no numbers, and runs once there.
What can be refused without weights is refused here. A model that cannot run on that device is described by
its config, and looked at when it is loaded.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import transformers

from fivefold.backends.extra import Outline
from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, FivefoldError, UnsupportedError
from fivefold.core.layout import CacheLayout, ModelShape
from fivefold.program import Model

from .pages import NUMBERS
from .witness import Layer, layout_of, watch

_QUANTIZED = "quantization_config"
_ATTENDING = ("attention", "full_attention", "sliding_attention")
"""Kinds of layers in configs which keep keys and values and nothing else."""


def outline(checkpoint: Checkpoint) -> Outline:
    """The model of a folder; no weight is read.

    UnsupportedError says why it cannot run, FileError what is broken.
    """
    where = f"{checkpoint.path}: {_named(checkpoint)}"
    try:
        return _outline(checkpoint, where)
    except FivefoldError:
        raise
    except Exception as error:  # configs of some models answer a question with an error of their own
        raise refused(error, where) from None


def _outline(checkpoint: Checkpoint, where: str) -> Outline:
    _check_quantization(checkpoint, where)
    number = _number(checkpoint)
    config = _config(checkpoint, where)
    context = _context(config, where)
    try:
        with quietly(), torch.device("meta"):
            empty = transformers.AutoModelForCausalLM.from_config(
                config, dtype=NUMBERS[number], trust_remote_code=False
            ).eval()
    except Exception as error:
        raise UnsupportedError(
            f"Transformers cannot build it ({_said(error)})",
            where=where,
            remedy="compare its config.json with the model's page",
        ) from None
    if type(empty).__name__ != _named(checkpoint):
        raise UnsupportedError(
            f"Transformers takes it for {type(empty).__name__}", where=where,
            remedy="only models that write text, and nothing else, run here",
        )  # fmt: skip
    shape, layout = _sizes(empty, context, where)
    held = {id(each): each.nbytes for each in (*empty.parameters(), *empty.buffers())}
    return Outline(
        Model(shape, layout, {}), sum(held.values()), number,
        f"transformers {transformers.__version__}, torch {torch.__version__}", config,
    )  # fmt: skip


@contextmanager
def quietly() -> Iterator[None]:
    """Transformers' notes and progress bars are kept off the terminal, and its warnings are no news here."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def refused(error: Exception, where: str) -> FivefoldError:
    """Why a model cannot run, as an error that says where."""
    if isinstance(error, FivefoldError):
        what = error.what
    else:
        what = f"running it with attention over pages fails ({_said(error)})"
    return UnsupportedError(
        f"the Transformers backend cannot run it: {what}",
        where=where,
        remedy="take a model of another architecture",
    )


def _named(checkpoint: Checkpoint) -> str:
    value = checkpoint.metadata.get("architectures")
    return str(value[0]) if isinstance(value, list) and len(value) == 1 else "no architecture"


def _said(error: Exception) -> str:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{type(error).__name__}: {first[:200]}"


def _check_quantization(checkpoint: Checkpoint, where: str) -> None:
    if checkpoint.metadata.get(_QUANTIZED) is not None:
        raise UnsupportedError(
            "its weights are quantized, and no family here takes its architecture", where=where,
            remedy="take its weights in bf16 or float32",
        )  # fmt: skip


def _number(checkpoint: Checkpoint) -> str:
    """bf16 where most bytes of the weights are; else float32, also for float16, for which processors have no
    fast products. Old folders hold masks among their weights, so what else there is does not matter."""
    sizes = Counter({"f32": 0})
    for tensor in checkpoint.tensors.values():
        sizes[tensor.format] += tensor.stored_bytes
    most = sizes.most_common(1)[0][0]
    if most not in ("f32", "f16", "bf16"):
        raise UnsupportedError(
            f"most of its weights are {most}", where=str(checkpoint.path),
            remedy="take its weights in bf16 or float32",
        )  # fmt: skip
    return "bf16" if most == "bf16" else "f32"


def _config(checkpoint: Checkpoint, where: str) -> Any:
    kind = checkpoint.metadata.get("model_type")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        brings = "auto_map" in checkpoint.metadata
        raise UnsupportedError(
            f"Transformers {transformers.__version__} does not know the model type {str(kind)[:100]!r}"
            + (", and code that comes with a model is never run" if brings else ""), where=where,
            remedy="take a model whose architecture is part of Transformers",
        )  # fmt: skip
    try:
        with quietly():
            config = transformers.AutoConfig.from_pretrained(
                checkpoint.path, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:
        raise FileError(
            f"Transformers cannot read its config ({_said(error)})",
            where=where,
            remedy="fetch the model again",
        ) from None
    return config


def _context(config: Any, where: str) -> int:
    """The longest context. With LongRoPE the shorter one that it was trained with first: beyond it the
    longest request of a step would change the angles of all others."""
    context = getattr(config, "max_position_embeddings", None)
    if not isinstance(context, int) or context < 1:
        raise UnsupportedError(
            "its config does not say how long its context is", where=where,
            remedy="write max_position_embeddings into config.json",
        )  # fmt: skip
    for rope in _ropes(config):
        if rope.get("rope_type") == "longrope":
            original = rope.get("original_max_position_embeddings")
            context = min(context, int(original or context))
    return context


def _ropes(config: Any) -> Iterator[Mapping[str, Any]]:
    """The rotary parameters, of all kinds of layers."""
    value = getattr(config, "rope_parameters", None)
    if isinstance(value, Mapping):
        yield value
        yield from (each for each in value.values() if isinstance(each, Mapping))


def _sizes(empty: Any, context: int, where: str) -> tuple[ModelShape, CacheLayout]:
    config = empty.config
    count = int(config.num_hidden_layers)
    layers: dict[int, Layer] = {}
    try:
        if type(empty)._can_set_experts_implementation():
            empty.set_experts_implementation("batched_mm")  # the one that has shapes without numbers
        with quietly():
            watch(empty, context, "meta", layers)
        layout = layout_of(layers, count)
    except UnsupportedError as error:
        raise refused(error, where) from None
    except Exception:
        layers = _by_config(config, count, layers.get(0), where)
        layout = layout_of(layers, count)
    first = layers[0]
    return ModelShape(
        family=str(config.model_type), layers=count, hidden=int(config.hidden_size), heads=first.heads,
        kv_heads=first.kv_heads, head_size=first.key_width,
        ffn=int(getattr(config, "intermediate_size", 0) or 0),
        vocabulary=int(config.vocab_size), context=context,
    ), layout  # fmt: skip


def _by_config(config: Any, count: int, first: Layer | None, where: str) -> dict[int, Layer]:
    """The layers of a model that does not run without numbers: all like the first if that was seen, else as
    most configs mean it. UnsupportedError if the config names layers of another kind."""
    kinds = {
        *(getattr(config, "layer_types", None) or ()),
        *(getattr(config, "layers_block_type", None) or ()),
    }
    strange = sorted(str(kind) for kind in kinds if kind not in _ATTENDING)
    if strange:
        raise refused(UnsupportedError(f"it has layers of the kind {', '.join(strange)}"), where)
    if first is None:
        heads = int(config.num_attention_heads)
        width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        first = Layer(heads, int(getattr(config, "num_key_value_heads", None) or heads), width, width, None)
    return dict.fromkeys(range(count), first)
