"""Opening whatever holds a model: one door for files and folders, and one for their tokenizers.

It looks at the kind of the path only and leaves the reading to the reader of that kind. It pulls
nothing: names of models become paths in `pull.resolve`.
"""

from __future__ import annotations

from pathlib import Path

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError
from fivefold.core.vocabulary import Vocabulary
from fivefold.files.gguf import open_gguf, part_paths
from fivefold.files.huggingface import INDEX, index_of, open_folder
from fivefold.files.tokenizer import gguf_vocabulary
from fivefold.files.tokenizer_json import huggingface_vocabulary

PICKLED = {".bin", ".pt", ".pth", ".ckpt"}


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a .gguf file, a folder that holds exactly one (all parts of a split file are one), or a folder
    with a config.json and safetensors files, itself or one of these files named.

    Raises FileError when there is nothing to open or the choice is not clear.
    """
    if path.is_dir():
        return _open_folder(path)
    if path.suffix == ".safetensors" or path.name == INDEX:
        if not path.exists():
            raise FileError("no such file", where=str(path), remedy="check the path")
        return open_folder(path.parent, index_of(path))
    return open_gguf(path)


def vocabulary_of(checkpoint: Checkpoint) -> Vocabulary:
    """The tokenizer of an opened model; UnsupportedError or FileError if it cannot be had."""
    if checkpoint.kind == "gguf":
        return gguf_vocabulary(checkpoint)
    return huggingface_vocabulary(checkpoint)


def _open_folder(folder: Path) -> Checkpoint:
    try:
        names = sorted(folder.iterdir())
    except OSError as error:
        raise FileError(
            f"the folder cannot be read ({error.strerror})", where=str(folder), remedy="check its permissions"
        ) from None
    files = [name for name in names if name.suffix == ".gguf" and name.is_file()]
    weights = any(name.suffix == ".safetensors" or name.name == INDEX for name in names)
    if files and weights:
        raise FileError(
            f"the folder holds a GGUF file ({files[0].name}) and safetensors files",
            where=str(folder),
            remedy="name the file that is meant",
        )
    if weights:
        return open_folder(folder)
    if files:
        return open_gguf(_only_gguf(folder, files))
    if any(name.suffix in PICKLED for name in names):
        raise FileError(
            "the folder holds pickled weights only, and opening those would run them",
            where=str(folder),
            remedy="use the model's safetensors or GGUF files",
        )
    raise FileError(
        "no model file in this folder", where=str(folder), remedy="name a .gguf file or a folder with one"
    )


def _only_gguf(folder: Path, files: list[Path]) -> Path:
    firsts = [file for file in files if (part_paths(file) or [file])[0] == file]
    if len(firsts) == 1:
        return firsts[0]
    if firsts:
        listed = ", ".join(file.name for file in firsts[:8])
        raise FileError(
            f"the folder holds {len(firsts)} GGUF files ({listed})",
            where=str(folder),
            remedy="name one of them",
        )
    return files[0]  # a later part without the first: the reader says which part is missing
