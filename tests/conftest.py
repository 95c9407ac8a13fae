"""What all tests share: the default model's file; tiny random models as GGUF files, and runners over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from fivefold.backends import NativeRunner, ReferenceRunner
from fivefold.core.batch import Float32
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.drafter import Drafter, DrafterShape, Form
from fivefold.core.errors import FivefoldError
from fivefold.engine import score
from fivefold.executor import Settings, choose_isa
from fivefold.files import open_checkpoint, write_gguf
from fivefold.formats import FORMATS
from fivefold.models import load_model
from fivefold.program import Model, packed_weight

DEFAULT_MODEL = "smollm2-135m"

# No test depends on the time that it takes: Hypothesis would let an example fail after 0.2 s. The same
# examples every time, so that a change is judged by what it changes; `make explore` draws new ones.
settings.register_profile("house", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("FIVEFOLD_EXAMPLES", "house"))


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The default model's GGUF, pulled before. Without it a test fails: leaving it out would hide a fault."""
    from fivefold.files import default_store, resolve

    try:
        return Path(resolve(DEFAULT_MODEL, default_store()))
    except FivefoldError as error:
        pytest.fail(f"the tests need the default model, `make pull` fetches it: {error}", pytrace=False)


Save = Callable[..., Checkpoint]


def stored(name: str, values: Float32, form: str = "f32") -> Tensor:
    """A tensor in a format; vectors stay f32, as in real files."""
    form = form if values.ndim > 1 else "f32"
    return Tensor(name, form, values.shape, FORMATS[form].pack(values.astype(np.float32).ravel()))


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes metadata and arrays by GGUF name to a file, and opens it."""

    def write(metadata: Mapping[str, Any], arrays: Mapping[str, Float32], form: str = "f32") -> Checkpoint:
        path = tmp_path / f"model-{len(list(tmp_path.iterdir()))}.gguf"
        write_gguf(path, metadata, [stored(name, values, form) for name, values in arrays.items()])
        return open_checkpoint(path)

    return write


@dataclass(frozen=True)
class Tiny:
    """A shape to make a random model of."""

    architecture: str = "llama"
    layers: int = 2
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 16
    ffn: int = 96
    vocabulary: int = 80
    tied: bool = True

    def metadata(self, **changes: Any) -> dict[str, Any]:
        """GGUF keys; names in `changes` have two underscores for a dot, and None takes a key out."""
        keys: dict[str, Any] = {
            "block_count": self.layers, "context_length": 256, "embedding_length": self.hidden,
            "feed_forward_length": self.ffn, "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads, "attention.layer_norm_rms_epsilon": 1e-5,
            "attention.key_length": self.head_size, "attention.value_length": self.head_size,
            "rope.dimension_count": self.head_size, "rope.freq_base": 10000.0,
        }  # fmt: skip
        keys |= {key.replace("__", "."): value for key, value in changes.items()}
        known = {f"{self.architecture}.{key}": value for key, value in keys.items() if value is not None}
        return {"general.architecture": self.architecture, **known}

    def arrays(self, seed: int = 3) -> dict[str, Float32]:
        """Random weights by GGUF name, sized so that activations keep their scale."""
        random = np.random.default_rng(seed)
        q, kv = self.heads * self.head_size, self.kv_heads * self.head_size
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (self.vocabulary, self.hidden)}
        for layer in range(self.layers):
            block = {
                "attn_norm.weight": (self.hidden,), "attn_q.weight": (q, self.hidden),
                "attn_k.weight": (kv, self.hidden), "attn_v.weight": (kv, self.hidden),
                "attn_output.weight": (self.hidden, q), "ffn_norm.weight": (self.hidden,),
                "ffn_gate.weight": (self.ffn, self.hidden), "ffn_up.weight": (self.ffn, self.hidden),
                "ffn_down.weight": (self.hidden, self.ffn),
            }  # fmt: skip
            if self.architecture == "qwen2":
                block |= {"attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
            shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
        shapes["output_norm.weight"] = (self.hidden,)
        if not self.tied:
            shapes["output.weight"] = (self.vocabulary, self.hidden)
        result: dict[str, Float32] = {}
        for name, shape in shapes.items():
            values = random.standard_normal(shape)
            if "norm" in name:
                values = 1 + 0.1 * values
            elif len(shape) > 1 and name != "token_embd.weight":
                values = values * 1.5 / np.sqrt(shape[-1])
            result[name] = values.astype(np.float32)
        return result


@pytest.fixture
def tiny() -> type[Tiny]:
    return Tiny


@pytest.fixture
def logits() -> Callable[..., Float32]:
    """(T - 1, V) logits of a checkpoint by the native executor, or with "reference" by the numpy one."""

    def compute(checkpoint: Checkpoint, tokens: list[int], by: str = "float", isa: str = "auto") -> Float32:
        model = load_model(checkpoint)
        if by == "reference":
            return score(ReferenceRunner(model, checkpoint, 256), tokens)
        return score(NativeRunner(model, checkpoint, Settings(choose_isa(isa), 2, by, 64), 256), tokens)

    return compute


@pytest.fixture
def random_drafter() -> Callable[..., Drafter]:
    """A drafter of random numbers for a model."""

    def make(model: Model, form: Form = "block", taps: tuple[int, ...] = (0, 1), **sizes: int) -> Drafter:
        own = model.shape
        given = {
            "layers": 2, "heads": own.heads, "kv_heads": own.kv_heads, "head_size": own.head_size,
            "ffn": 64, "slots": 3, "vocabulary": 40,
        } | sizes  # fmt: skip
        shape = DrafterShape(taps, hidden=own.hidden, form=form, **given)
        random = np.random.default_rng(11)

        def drawn(*dimensions: int) -> Float32:
            scale = 0.2 if len(dimensions) > 1 else 1.0
            return (scale * random.standard_normal(dimensions)).astype(np.float32)

        weights = {name: drawn(*dimensions) for name, dimensions in shape.weights().items()}
        slots = drawn(shape.slots if form == "block" else 0, shape.hidden)
        packed = {name: packed_weight(name, values) for name, values in weights.items()}
        tokens = random.permutation(own.vocabulary)[: shape.vocabulary].astype(np.int32)
        return Drafter(shape, packed, slots, tokens)

    return make
