"""Opening whatever holds a model: one door for files and folders.

It looks at the kind of the path only and leaves the reading to the reader of that kind. It pulls
nothing: names of models become paths in `pull.resolve`.
"""

from __future__ import annotations

from pathlib import Path

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.files.gguf import open_gguf, part_paths


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a .gguf file, or a folder that holds exactly one (all parts of a split file are one).

    Raises FileError when there is nothing to open or the choice is not clear, UnsupportedError for
    a kind of file that this build does not read.
    """
    if path.is_dir():
        return open_gguf(_only_gguf(path))
    if path.suffix == ".safetensors":
        raise _safetensors(path)
    return open_gguf(path)


def _only_gguf(folder: Path) -> Path:
    try:
        names = sorted(folder.iterdir())
    except OSError as error:
        raise FileError(
            f"the folder cannot be read ({error.strerror})", where=str(folder), remedy="check its permissions"
        ) from None
    files = [name for name in names if name.suffix == ".gguf" and name.is_file()]
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
    if files:
        return files[0]  # a later part without the first: the reader says which part is missing
    if any(name.suffix == ".safetensors" for name in names):
        raise _safetensors(folder)
    raise FileError("no model file in this folder", where=str(folder), remedy="name a .gguf file")


def _safetensors(path: Path) -> UnsupportedError:
    return UnsupportedError(
        "safetensors files cannot be opened yet", where=str(path), remedy="use a GGUF file of this model"
    )
