"""What all tests share: the default model's file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from fivefold.core.errors import FivefoldError

DEFAULT_MODEL = "smollm2-135m"

# No test depends on the time that it takes: Hypothesis would let an example fail after 0.2 s.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The default model's GGUF, pulled before. Without it a test fails: leaving it out would hide a fault."""
    from fivefold.files import default_store, resolve

    try:
        return Path(resolve(DEFAULT_MODEL, default_store()))
    except FivefoldError as error:
        pytest.fail(f"the tests need the default model, `make pull` fetches it: {error}", pytrace=False)
