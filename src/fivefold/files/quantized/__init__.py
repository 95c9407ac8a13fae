"""Quantized checkpoints of all makers as tensors of this project's formats, named as families name them.

The config says how the matrices of a folder are stored, and the tensors beside each say it again; where the
two do not agree, nothing is read. A matrix that is stored as floats is what it is, whatever the config says
of its module. What becomes of a tensor is known from its header; its bytes are brought into another order,
where they must, when they are wanted. What is declared is for `makers`, how it lies for `layouts`. GGUF
files, which need none of this but one factor for a tensor, are in `gguf_scales`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.files.gguf_values import shown
from fivefold.files.json_text import read_json
from fivefold.files.quantized import makers
from fivefold.files.quantized.declaration import TAKE_ANOTHER, Declaration, Declared
from fivefold.files.quantized.makers import modelopt
from fivefold.files.quantized.modules import read_modules

__all__ = ["MODELOPT_CONFIG", "QUANTIZATION", "quantization_of", "with_quantization"]

QUANTIZATION = "quantization_config"
"""The key of config.json."""
MODELOPT_CONFIG = "hf_quant_config.json"
"""ModelOpt's own file, which may stand beside it or alone."""


def _walk() -> dict[str, Callable[[Declaration], Declared]]:
    found = {}
    for module in pkgutil.iter_modules(makers.__path__):
        maker = import_module(f"{makers.__name__}.{module.name}")
        found.update(dict.fromkeys(maker.METHODS, maker.read))
    return found


MAKERS: Mapping[str, Callable[[Declaration], Declared]] = MappingProxyType(_walk())
"""Who reads which `quant_method`: one file of `makers` each, which are walked."""


def quantization_of(metadata: Mapping[str, Any], folder: Path) -> tuple[Any, str]:
    """What a folder's files say of its quantization, and where they say it; None if they say nothing."""
    value, own = metadata.get(QUANTIZATION), folder / MODELOPT_CONFIG
    if own.is_file() and (value is None or _needs_layers(value)):
        return {"quant_method": modelopt.METHODS[0], **read_json(own)}, str(own)
    return value, f"{folder / 'config.json'}: {QUANTIZATION}"


def with_quantization(
    tensors: Mapping[str, Tensor], said: tuple[Any, str], folder: Path
) -> Mapping[str, Tensor]:
    """The tensors of a folder with every quantized matrix as one tensor, the others as they are; `said` is
    what `quantization_of` found.

    UnsupportedError names a quantization that is not implemented, FileError what does not fit together.
    """
    value, where = said
    return tensors if value is None else read_modules(tensors, _declared(value, where), str(folder))


def _declared(value: Any, where: str) -> Declared:
    if not isinstance(value, Mapping):
        raise FileError("it is not an object", where=where, remedy="fetch the file again")
    config = Declaration(value, where)
    method = config.text("quant_method")
    reader = MAKERS.get(method)
    if reader is None:
        raise UnsupportedError(
            f"quantization {shown(method) if method else 'without a quant_method'} is not implemented",
            where=where, remedy=TAKE_ANOTHER,
        )  # fmt: skip
    return reader(config)


def _needs_layers(value: Any) -> bool:
    """Whether ModelOpt's object in config.json leaves to its own file which module is quantized how."""
    return (
        isinstance(value, Mapping)
        and value.get("quant_algo") == modelopt.MIXED
        and not value.get("quantized_layers")
    )
