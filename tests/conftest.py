"""What all tests share: the default model's file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from fivefold.core.errors import FivefoldError

DEFAULT_MODEL = "smollm2-135m"

# No test depends on the time that it takes: Hypothesis would let an example fail after 0.2 s. The same
# examples every time, so that a change is judged by what it changes; `make explore` draws new ones.
settings.register_profile("house", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("FIVEFOLD_EXAMPLES", "house"))


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The default model's GGUF, pulled before. Without it a test fails: leaving it out would hide a fault."""
    from fivefold.files import default_store, resolve

    try:
        return Path(resolve(DEFAULT_MODEL, default_store()))
    except FivefoldError as error:
        pytest.fail(f"the tests need the default model, `make pull` fetches it: {error}", pytrace=False)
