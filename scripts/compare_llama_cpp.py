"""Hold the logits that llama.cpp computes from GGUF files against those of the float32 reference.

    .venv/bin/python scripts/compare_llama_cpp.py SOURCE LIBRARIES TEXT FILE.gguf ...

SOURCE is llama.cpp's source, for its headers, LIBRARIES the folder of its shared libraries. For each file it
is said how far llama.cpp's answers lie from those of the reference, and from the reference with the rows that
meet quantized matrices rounded to q8_0, as llama.cpp's processor kernels round them. What is left then is the
order of float sums, and codes that it turns at ties: few in one layer, many after thirty.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.batch import Float32
from fivefold.engine import LoadOptions, load, score
from fivefold.formats import FORMATS
from fivefold.ops import OPS, Call

TOKENS = 256
LINEAR = OPS["linear"]
PLAIN = LINEAR.reference


def build(source: Path, libraries: Path, folder: Path) -> Path:
    """The little program that asks llama.cpp."""
    program = folder / "llama_logits"
    subprocess.run(
        [
            "c++", "-std=c++17", "-O1", f"-I{source}/include", f"-I{source}/ggml/include",
            str(Path(__file__).with_name("llama_logits.cc")), "-o", str(program), f"-L{libraries}",
            "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{libraries}", f"-Wl,-rpath-link,{libraries}",
        ],
        check=True,
    )  # fmt: skip
    return program


def theirs(program: Path, model: Path, tokens: list[int], folder: Path) -> Float32:
    """Logits (T, V) of llama.cpp."""
    np.array(tokens, "<i4").tofile(folder / "tokens")
    run = [str(program), str(model), str(folder / "tokens"), str(folder / "logits")]
    subprocess.run(run, check=True, stderr=subprocess.DEVNULL)
    return np.fromfile(folder / "logits", "<f4").reshape(len(tokens), -1)


def log_softmax(logits: Float32) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Row by row."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def compare(name: str, ours: Float32, other: Float32) -> None:
    """Print the distance of two sets of logits."""
    before, after = log_softmax(ours), log_softmax(other)
    divergence = (np.exp(before) * (before - after)).sum(axis=1)
    same = (ours.argmax(axis=1) == other.argmax(axis=1)).mean()
    off = np.abs(ours.astype(np.float64) - other)
    print(
        f"  {name}: mean KL {divergence.mean():.3e}, worst {divergence.max():.3e}, "
        f"same first token {same:.2%}, logits off by {off.mean():.3e} on average, {off.max():.3e} at most"
    )


def rounding_rows(weights: Mapping[str, Float32], formats: Mapping[str, str]) -> Callable[[Call], Any]:
    """The matrix product with rows as q8_0 holds them wherever the matrix is quantized."""
    quantized = {id(values) for name, values in weights.items() if FORMATS[formats[name]].quantized}

    def product(call: Call) -> tuple[Float32, ...]:
        if id(call.weights[0]) not in quantized:
            return PLAIN(call)
        rows, q8_0 = call.inputs[0], FORMATS["q8_0"]
        held = q8_0.unpack(q8_0.pack(rows.ravel()), rows.size).reshape(rows.shape)
        return PLAIN(replace(call, inputs=[held]))

    return product


def main() -> None:
    """Compare all files."""
    source, libraries, text = (Path(name) for name in sys.argv[1:4])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = build(source, libraries, folder)
        for path in map(Path, sys.argv[4:]):
            print(path.name)
            model = load(path, LoadOptions(reference=True, context=TOKENS + 8))
            tokens = model.vocabulary.encode(text.read_bytes())[:TOKENS]
            asked = theirs(program, path, tokens, folder)[:-1]
            compare("float32 rows", score(model.runner, tokens), asked)
            formats = {name: tensor.format for name, tensor in model.checkpoint.tensors.items()}
            object.__setattr__(LINEAR, "reference", rounding_rows(model.runner._weights, formats))
            compare("q8_0 rows", score(model.runner, tokens), asked)
            object.__setattr__(LINEAR, "reference", PLAIN)


if __name__ == "__main__":
    main()
