"""Files: GGUF and safetensors, the catalogue of models, pulling them, and their tokenizers.

This room turns a name into a path and a path into a `Checkpoint`: named tensors with their format,
mapped from the disk. It does not dequantise and knows no model family.
"""

from fivefold.files.catalogue import CatalogueModel, WheelSource, catalogue
from fivefold.files.download import Progress
from fivefold.files.ggml_types import GGML_TYPES, GGML_TYPES_BY_NAME, GgmlType
from fivefold.files.gguf import open_gguf
from fivefold.files.gguf_write import write_gguf
from fivefold.files.open import open_checkpoint, vocabulary_of
from fivefold.files.pull import pull, resolve
from fivefold.files.safetensors import open_safetensors, read_safetensors
from fivefold.files.store import PulledModel, Record, default_store, list_models
from fivefold.files.tokenizer import gguf_vocabulary

__all__ = [
    "GGML_TYPES",
    "GGML_TYPES_BY_NAME",
    "CatalogueModel",
    "GgmlType",
    "Progress",
    "PulledModel",
    "Record",
    "WheelSource",
    "catalogue",
    "default_store",
    "gguf_vocabulary",
    "list_models",
    "open_checkpoint",
    "open_gguf",
    "open_safetensors",
    "pull",
    "read_safetensors",
    "resolve",
    "vocabulary_of",
    "write_gguf",
]
