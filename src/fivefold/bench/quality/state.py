"""A measurement's state in a file, so that an interrupted one goes on where it stopped, with the same bits.

The file is a .npz of the sums, KL of every position, and what they are of. It is written whole beside the
old one and takes its name in one step: whenever the process ends, the file is that of some whole window.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.errors import InputError

from .sums import Tallies

REMEDY = "remove it, or name another file"
WHERE, IDENTITY = "--resume", "identity"

Identity = Mapping[str, Any]


def save(path: Path, identity: Identity, tallies: Tallies) -> None:
    """Write the state; InputError if the file cannot be written."""
    unnamed = ""
    try:
        handle, unnamed = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            arrays = {**tallies.arrays(), IDENTITY: np.array(json.dumps(identity))}
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        Path(unnamed).replace(path)
        unnamed = ""
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}", where=WHERE,
                         remedy="name a file in a folder that can be written") from error  # fmt: skip
    finally:
        if unnamed:
            with suppress(OSError):
                Path(unnamed).unlink()


def restore(path: Path, identity: Identity) -> Tallies | None:
    """The state of that file; None if there is no such file.

    InputError if it is no state, if it is one of another measurement (by the name of what differs), or if
    there is no folder for it.
    """
    if not path.exists():
        if not path.parent.is_dir():
            raise InputError(f"{path} cannot be written: its folder does not exist", where=WHERE,
                             remedy="name a file in a folder that can be written")  # fmt: skip
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            held = json.loads(str(stored[IDENTITY]))
            _check_identity(path, held, identity)
            return Tallies.of({name: stored[name] for name in ("windows", "sums", "kl")})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise InputError(f"{path} is not a state that can be read{why}", where=WHERE,
                         remedy=REMEDY) from error  # fmt: skip


def _check_identity(path: Path, held: Any, identity: Identity) -> None:
    """InputError unless the state is of the same measurement."""
    if not isinstance(held, dict):
        raise ValueError("its description is not an object")
    for name in [*identity, *(name for name in held if name not in identity)]:
        there, here = held.get(name), identity.get(name)
        if there != here:
            raise InputError(
                f"{path} is the state of another measurement: {name} is {_shown(there)} there and "
                f"{_shown(here)} here", where=WHERE, remedy=REMEDY,
            )  # fmt: skip


def _shown(value: Any) -> str:
    """A value in few letters; hashes by their beginning."""
    values = value if isinstance(value, list) else [value]
    return ", ".join(text[:12] if len(text) == 64 else text for text in map(str, values))
