"""A model that the Transformers backend runs, behind HTTP: whole, streamed, and several at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
from foreign_models import BYTES, greedy, save_foreign

from fivefold.engine import AsyncEngine, Engine, LoadOptions, load, need_of
from fivefold.server import Maker, ModelConfig, ServerConfig, serve

WRITTEN = 24


def test_streams_write_what_generate_writes(run_server: Callable[..., Any], tmp_path: Path) -> None:
    save_foreign("olmo3", tmp_path)
    prompts = [[(17 * place + 5 * row) % BYTES for row in range(40 + place)] for place in range(4)]
    expected = greedy(tmp_path, prompts, WRITTEN)
    loaded = load(tmp_path, LoadOptions(threads=1, entries=1000, max_rows=24))
    served = serve(ModelConfig(str(tmp_path), "olmo"), loaded, AsyncEngine(Engine(loaded)), 0)
    body: Any = {
        "model": "olmo", "max_tokens": WRITTEN, "temperature": 0,
        "extra_body": {"ignore_eos": True, "return_token_ids": True},
    }  # fmt: skip
    with (
        run_server(served) as server,
        openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
    ):

        def streamed(prompt: list[int]) -> tuple[list[int], int]:
            found: list[int] = []
            pieces = 0
            for chunk in client.completions.create(prompt=prompt, stream=True, **body):
                new = (chunk.choices[0].model_extra or {}).get("token_ids") or []
                found += new
                pieces += bool(new)
            return found, pieces

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(streamed, prompts))
        whole = client.completions.create(prompt=prompts[0], **body)
        server.wait_idle()
    assert [tokens for tokens, _ in answers] == expected
    assert all(pieces > 8 for _, pieces in answers), "the answers came whole"
    assert (whole.choices[0].model_extra or {})["token_ids"] == expected[0]


def test_its_memory_is_counted_and_its_backend_named_before_it_is_loaded(tmp_path: Path) -> None:
    save_foreign("olmo3", tmp_path)
    config = ServerConfig((ModelConfig(str(tmp_path), "olmo", context=200),))
    budget = 2_000_000
    (entry,) = (
        Maker(Path, LoadOptions(threads=1, max_rows=64), lambda: 0.0, lambda: budget).table(config).local
    )
    need = need_of(tmp_path, LoadOptions(context=200, max_rows=64))
    assert entry.notice.startswith(
        "no family here takes Olmo3ForCausalLM: it runs on the Transformers backend"
    )
    assert need.weights < need.least_bytes <= entry.recipe.bytes <= budget
    assert entry.recipe.bytes == need.bytes(entry.recipe.load.entries or 0)
