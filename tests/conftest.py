"""What all tests share: the default model's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fivefold.core.errors import FivefoldError

DEFAULT_MODEL = "smollm2-135m"


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The default model's GGUF, pulled before. Without it a test fails: leaving it out would hide a fault."""
    from fivefold.files import default_store, resolve

    try:
        return Path(resolve(DEFAULT_MODEL, default_store()))
    except FivefoldError as error:
        pytest.fail(f"the tests need the default model, `make pull` fetches it: {error}", pytrace=False)
