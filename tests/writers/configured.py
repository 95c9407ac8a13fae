"""Checkpoints with other configs than their own, and what is expected of those that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import InputError


def changed(checkpoint: Checkpoint, **values: Any) -> Checkpoint:
    """The same weights with other values in the config; `...` takes a key out."""
    config = {key: value for key, value in {**checkpoint.metadata, **values}.items() if value is not ...}
    return Checkpoint(checkpoint.path, checkpoint.kind, config, checkpoint.tensors)


def assert_refused(load: Callable[[], object], path: Path, said: str) -> None:
    """Loading what lies at `path` ends in one short line that says so, with a remedy."""
    with pytest.raises(InputError) as caught:
        load()
    line = caught.value.line()
    assert said in line
    assert str(path) in line
    assert caught.value.remedy
    assert len(line) < 600
