"""The runner of Transformers models: rows of all requests as one text, through the model's own code.

The model sees a batch of one with N tokens and their positions, and its attention is ours (`attention`). It
is asked for the logits of the wanted rows only, where its code can be. A row's numbers depend on how many
rows go with it, in the last digits: torch chooses its ways of multiplying by size.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fivefold.backends.cached import CachedRunner
from fivefold.core.batch import LOGITS, Batch, Float32
from fivefold.core.errors import UnsupportedError
from fivefold.core.layout import CacheLayout

from .attention import CURRENT, NAME, Pass
from .pages import TorchPages
from .pieces import Pieces, pieces_of


class TransformersRunner(CachedRunner):
    """A loaded model with room for `entries` positions, fewer behind windows; stored as f32, bf16 or f16."""

    def __init__(
        self, model: Any, layout: CacheLayout, entries: int, form: str, threads: int, max_rows: int = 512
    ) -> None:
        pages = layout.pages(entries, max_rows)
        self._storage = TorchPages(layout, pages, form)
        super().__init__(layout, pages, self._storage, max_rows)
        self.max_rows = max_rows
        self.cache_bytes = self._storage.bytes
        self._threads = threads
        self._model = model
        self._number = next(model.parameters()).dtype
        self._chooses = "logits_to_keep" in inspect.signature(model.forward).parameters
        model.set_attn_implementation(NAME)

    def _outputs(self, batch: Batch, copy: bool) -> Sequence[Float32]:
        """Logits (n, V) of the rows that want them."""
        if batch.inputs:
            raise UnsupportedError("a model of the Transformers backend takes no rows in place of tokens")
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        pieces: dict[int, Pieces] = {}
        for group in self.cache.layout.groups:
            pieces |= dict.fromkeys(group.layers, pieces_of(batch, group, self._number))
        wanted = torch.from_numpy(batch.row_sets.get(LOGITS, np.zeros(0, np.int32)).astype(np.int64))
        chosen = {"logits_to_keep": wanted} if self._chooses else {}
        token = CURRENT.set(Pass(pieces, self._storage))
        try:
            with torch.inference_mode():
                output = self._model(
                    input_ids=torch.from_numpy(batch.tokens.astype(np.int64))[None],
                    position_ids=torch.from_numpy(batch.positions.astype(np.int64))[None],
                    use_cache=False, **chosen,
                )  # fmt: skip
                logits = output.logits[0] if self._chooses else output.logits[0][wanted]
                found: Float32 = logits.float().numpy()
        finally:
            CURRENT.reset(token)
        return [found]
