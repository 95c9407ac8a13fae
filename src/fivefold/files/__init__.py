"""Files: GGUF and safetensors, the catalogue of models, pulling them, and their tokenizers.

This room turns a name into a path and a path into a `Checkpoint`: named tensors with their format,
mapped from the disk. It does not dequantise and knows no model family.
"""

from fivefold.files.catalogue import CatalogueModel, WheelSource, catalogue
from fivefold.files.download import Progress
from fivefold.files.drafter_file import drafter_for, found_drafter, read_drafter, write_drafter
from fivefold.files.filling import Filling
from fivefold.files.folder_write import copy_other_files
from fivefold.files.ggml_types import GGML_TYPES, GGML_TYPES_BY_NAME, GgmlType
from fivefold.files.gguf import open_gguf, part_paths
from fivefold.files.gguf_write import gguf_layout, write_gguf
from fivefold.files.layout import Layout, Outline, Place
from fivefold.files.learned import model_fingerprint
from fivefold.files.lookahead_found import found_lookahead_module, sought_lookahead_module
from fivefold.files.lookahead_module import (
    lookahead_module_for,
    read_lookahead_module,
    write_lookahead_module,
)
from fivefold.files.mapped import give_back
from fivefold.files.ngram_file import found_ngrams, read_ngrams, write_ngrams
from fivefold.files.open import open_checkpoint, vocabulary_of
from fivefold.files.pull import pull, resolve
from fivefold.files.remove import Leftover, leftovers, pulled_model, remove_leftovers, remove_model
from fivefold.files.running import Registration, RunningServer, list_running, register, running_folder
from fivefold.files.safetensors import open_safetensors, read_safetensors
from fivefold.files.safetensors_types import SAFETENSORS_FORMATS
from fivefold.files.safetensors_write import safetensors_layout
from fivefold.files.store import PulledModel, Record, default_store, list_models
from fivefold.files.tokenizer import gguf_vocabulary
from fivefold.files.tokenizer_json import huggingface_vocabulary
from fivefold.files.whole import whole_file

__all__ = [
    "GGML_TYPES",
    "GGML_TYPES_BY_NAME",
    "SAFETENSORS_FORMATS",
    "CatalogueModel",
    "Filling",
    "GgmlType",
    "Layout",
    "Leftover",
    "Outline",
    "Place",
    "Progress",
    "PulledModel",
    "Record",
    "Registration",
    "RunningServer",
    "WheelSource",
    "catalogue",
    "copy_other_files",
    "default_store",
    "drafter_for",
    "found_drafter",
    "found_lookahead_module",
    "found_ngrams",
    "gguf_layout",
    "gguf_vocabulary",
    "give_back",
    "huggingface_vocabulary",
    "leftovers",
    "list_models",
    "list_running",
    "lookahead_module_for",
    "model_fingerprint",
    "open_checkpoint",
    "open_gguf",
    "open_safetensors",
    "part_paths",
    "pull",
    "pulled_model",
    "read_drafter",
    "read_lookahead_module",
    "read_ngrams",
    "read_safetensors",
    "register",
    "remove_leftovers",
    "remove_model",
    "resolve",
    "running_folder",
    "safetensors_layout",
    "sought_lookahead_module",
    "vocabulary_of",
    "whole_file",
    "write_drafter",
    "write_gguf",
    "write_lookahead_module",
    "write_ngrams",
]
