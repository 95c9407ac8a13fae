"""From source and target to the kind of output: GGUF gives GGUF, a Hugging Face folder a folder."""

from __future__ import annotations

from pathlib import Path

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.files import SAFETENSORS_FORMATS
from fivefold.quantize.folder_output import FolderOutput
from fivefold.quantize.gguf_output import GgufOutput
from fivefold.quantize.plan import Output


def output_for(checkpoint: Checkpoint, target: Path) -> Output:
    """The output at a target, whose suffix says what it is to be.

    UnsupportedError where the kinds differ: the tensors of a Hugging Face folder have other names and, for
    some families, another order of rows than a GGUF file's, and their tokenizers are described otherwise.
    """
    gguf = target.suffix == ".gguf"
    if checkpoint.kind == "gguf":
        if not gguf:
            raise UnsupportedError(
                "a GGUF file cannot be quantized into a Hugging Face folder", where=str(target),
                remedy="name a target that ends in .gguf, or take the model's Hugging Face folder",
            )  # fmt: skip
        return GgufOutput(checkpoint, target.name)
    if gguf:
        raise UnsupportedError(
            "a Hugging Face folder cannot be quantized into a GGUF file", where=str(target),
            remedy="write a folder instead, or convert the model to GGUF first",
        )  # fmt: skip
    quantized = any(
        tensor.scales is not None or tensor.format not in SAFETENSORS_FORMATS
        for tensor in checkpoint.tensors.values()
    )
    if quantized or "quantization_config" in checkpoint.metadata:
        raise InputError(
            "the model is quantized already", where=str(checkpoint.path),
            remedy="quantize the model in floats instead",
        )  # fmt: skip
    return FolderOutput(checkpoint)
