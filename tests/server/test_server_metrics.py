"""`/metrics`: Prometheus' form, the names that vLLM's board asks for, and figures that add up."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fivefold.server import make_app

TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
BOARD = [
    *(f"vllm:{name}_{end}" for end in ("bucket", "sum", "count") for name in (
        "e2e_request_latency_seconds", "inter_token_latency_seconds", "time_to_first_token_seconds",
        "request_time_per_output_token_seconds", "request_prompt_tokens", "request_generation_tokens",
        "request_max_num_generation_tokens", "request_queue_time_seconds", "request_prefill_time_seconds",
        "request_decode_time_seconds",
    )),
    "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:num_requests_running",
    "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:request_success_total",
    "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total", "vllm:num_preemptions_total",
]  # fmt: skip


@pytest.fixture
def app(
    make_tiny: Callable[..., Any], run_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A fresh application: its figures begin at nothing. Steps are slow enough to be told apart."""
    served = make_tiny()
    runner = served.engine.loaded.runner
    before = runner.run

    def run(*given: Any, **options: Any) -> Any:
        time.sleep(0.003)
        return before(*given, **options)

    monkeypatch.setattr(runner, "run", run)
    with run_app(make_app([served])) as process:
        yield process


def figures(app: Any) -> dict[str, float]:
    """All samples, by name, with the labels but the model's and the engine's."""
    reply = app.ask("/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(reply.body.decode()):
        assert family.documentation
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            labels = dict(sample.labels)
            assert labels.pop("model_name") == "tiny"
            assert labels.pop("engine") == "0"
            rest = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
            found[f"{sample.name}{{{rest}}}" if rest else sample.name] = sample.value
    return found


def test_the_boards_names_are_there(app: Any) -> None:
    app.ask(TEXT, {"prompt": "hello", "max_tokens": 20, "ignore_eos": True})
    names = {name.split("{")[0] for name in figures(app)}
    assert set(BOARD) - names == set()


def test_totals_are_the_sums_of_usage(app: Any) -> None:
    usages = []
    for seed in range(4):
        body: dict[str, Any] = {"prompt": list(range(60, 130)), "seed": seed, "max_tokens": 7}
        usages.append(app.ask(TEXT, body).json["usage"])
        chat = {"messages": [{"role": "user", "content": "hello"}], "seed": seed, "max_tokens": 9}
        options = {"stream": True, "stream_options": {"include_usage": True}}
        usages.append(app.ask(CHAT, {**chat, **options}).chunks[-1]["usage"])
    prompt = sum(usage["prompt_tokens"] for usage in usages)
    output = sum(usage["completion_tokens"] for usage in usages)
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    found = figures(app)
    assert found["vllm:prompt_tokens_total"] == found["vllm:prefix_cache_queries_total"] == prompt
    assert found["vllm:prefix_cache_hits_total"] == found["vllm:prompt_tokens_cached_total"] == cached > 0
    assert found["vllm:generation_tokens_total"] == output
    assert found["vllm:request_prompt_tokens_sum"] == prompt
    assert found["vllm:request_generation_tokens_sum"] == output
    assert found["vllm:request_prefill_kv_computed_tokens_sum"] == prompt - cached
    assert found["vllm:request_params_max_tokens_sum"] == 4 * 7 + 4 * 9
    assert found["vllm:request_max_num_generation_tokens_sum"] == 4 * 7 + 4 * 9
    ended = sum(value for name, value in found.items() if name.startswith("vllm:request_success_total"))
    assert ended == found["vllm:e2e_request_latency_seconds_count"] == 8
    assert found["vllm:time_to_first_token_seconds_count"] == 8
    assert found["vllm:inter_token_latency_seconds_count"] <= output - 8
    assert found["vllm:num_requests_running"] == found["vllm:num_requests_waiting"] == 0
    assert found["vllm:kv_cache_usage_perc"] == 0


def test_reasons_and_choices_are_counted(app: Any) -> None:
    app.ask(TEXT, {"prompt": "hello", "max_tokens": 3, "ignore_eos": True, "n": 3})
    app.ask(TEXT, {"prompt": "hello", "max_tokens": 3, "logit_bias": {"1": 100}, "temperature": 0})
    found = figures(app)
    assert found["vllm:request_success_total{finished_reason=length}"] == 3
    assert found["vllm:request_success_total{finished_reason=stop}"] == 1
    assert found["vllm:request_params_n_sum"] == 4
    assert found["vllm:request_params_n_count"] == 2


def test_refused_requests_are_no_requests(app: Any) -> None:
    for body in ({"prompt": "hello", "n": 99}, {"prompt": [50] * 100}, {}):
        assert app.ask(TEXT, body).status == 400
    found = figures(app)
    assert found["vllm:prompt_tokens_total"] == 0
    assert not any(name.startswith("vllm:request_success_total") for name in found)


def test_each_model_has_its_own(make_tiny: Callable[..., Any], run_app: Callable[..., Any]) -> None:
    first, second = make_tiny(name="first"), make_tiny(name="second")
    for served in (first, second):
        served.config = dataclasses.replace(served.config, aliases=())
    with run_app(make_app([first, second])) as app:
        app.ask(TEXT, {"prompt": "hello", "model": "second", "max_tokens": 2, "ignore_eos": True})
        text = app.ask("/metrics").body.decode()
    assert 'vllm:generation_tokens_total{engine="0",model_name="first"} 0.0' in text
    assert 'vllm:generation_tokens_total{engine="0",model_name="second"} 2.0' in text
