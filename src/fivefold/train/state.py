"""The state of a run in a file, so that a stopped one goes on to the same bits.

The file is a .npz of the optimizer's arrays, the number of steps done, and what the run is of. It is written
whole beside the old one and takes its name in one step.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.batch import Float32
from fivefold.core.errors import FivefoldError, InputError
from fivefold.files import whole_file

Identity = Mapping[str, Any]
_REMEDY = "give the options that it was begun with, or remove it and begin anew"


@dataclass(frozen=True, slots=True)
class State:
    """Steps done, seconds they took, and the optimizer's arrays by name."""

    steps: int
    seconds: float
    arrays: dict[str, Float32]


def save_state(path: Path, identity: Identity, state: State) -> None:
    """Write the state; FivefoldError if it cannot be written."""
    described = json.dumps({"identity": identity, "steps": state.steps, "seconds": state.seconds})
    try:
        with whole_file(path) as file:
            np.savez(file, allow_pickle=False, described=np.array(described), **state.arrays)
    except OSError as error:
        raise FivefoldError(
            f"cannot be written ({error.strerror or error})", where=str(path),
            remedy="check the folder and the room on the disk",
        ) from None  # fmt: skip


def restore_state(path: Path, identity: Identity) -> State:
    """The state of that file; InputError if there is none, or if it is of another run, by what differs."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            described = json.loads(str(stored["described"]))
            arrays = {name: stored[name] for name in stored.files if name != "described"}
        held, steps, seconds = described["identity"], int(described["steps"]), float(described["seconds"])
        keys = dict.fromkeys([*identity, *held])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise InputError(f"no state of a run can be read{why}", where=f"--resume: {path}",
                         remedy="run without --resume, which begins anew") from None  # fmt: skip
    for key in keys:
        there, here = held.get(key), identity.get(key)
        if there != here:
            raise InputError(
                f"the run was begun otherwise: {key} is {_shown(there)} there and {_shown(here)} here",
                where=f"--resume: {path}", remedy=_REMEDY,
            )  # fmt: skip
    return State(steps, seconds, arrays)


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:12]}..."
