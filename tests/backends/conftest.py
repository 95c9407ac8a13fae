"""What tests of the Transformers backend share: folders of tiny models, each made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from foreign_models import save_foreign


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a model by name. Not to be changed."""
    made: dict[str, Path] = {}

    def give(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("foreign") / name
            save_foreign(name, made[name])
        return made[name]

    return give
