"""Figures for Prometheus, under vLLM's names, so that its dashboards work here.

Totals and levels come from the engines when they are asked for; distributions are noted as events pass.
Labels are `model_name` and `engine`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fivefold.core.request import Request, TokenEvent
from fivefold.engine import AsyncEngine

from .models import Models
from .residency_metrics import residency_metrics
from .served import ServedModel

_LABELS = ("model_name", "engine")
_SHORT = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
)
_GAP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0)
_LONG = (
    0.05,
    0.1,
    0.3,
    0.5,
    0.8,
    1.0,
    1.5,
    2.0,
    2.5,
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    40.0,
    50.0,
    60.0,
    120.0,
    240.0,
)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)

_HISTOGRAMS = {
    "time_to_first_token_seconds": _SHORT,
    "inter_token_latency_seconds": _GAP,
    "request_time_per_output_token_seconds": _GAP,
    "e2e_request_latency_seconds": _LONG,
    "request_queue_time_seconds": _LONG,
    "request_prefill_time_seconds": _LONG,
    "request_decode_time_seconds": _LONG,
    "request_inference_time_seconds": _LONG,
    "request_prompt_tokens": _TOKENS,
    "request_generation_tokens": _TOKENS,
    "request_max_num_generation_tokens": _TOKENS,
    "request_params_n": (1, 2, 5, 10, 20),
    "request_params_max_tokens": _TOKENS,
    "request_prefill_kv_computed_tokens": _TOKENS,
}


class Metrics(Collector):
    """All figures of one server."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._histograms = {
            name: Histogram(
                f"vllm:{name}", name.replace("_", " "), _LABELS, registry=self._registry, buckets=sizes
            )
            for name, sizes in _HISTOGRAMS.items()
        }
        self._ended = Counter(
            "vllm:request_success",
            "finished requests",
            (*_LABELS, "finished_reason"),
            registry=self._registry,
        )
        self._before: dict[str, float] = {}
        self._asked: dict[str, Request] = {}
        self._first: set[str] = set()
        self._bound: dict[tuple[str, str], Histogram] = {}

    def text(self) -> bytes:
        """Everything in Prometheus' text form."""
        return generate_latest(self._registry)

    def asked(self, model: ServedModel, requests: Sequence[Request]) -> None:
        """Note requests as they are given to the engine."""
        now = time.perf_counter()
        for request in requests:
            self._before[request.identity] = now
            self._asked[request.identity] = request
        name = model.config.name
        self._observe("request_params_n", name, len(requests))
        most = requests[0].sampling.max_tokens
        if most is not None:
            self._observe("request_params_max_tokens", name, most)

    def forget(self, requests: Sequence[Request]) -> None:
        """Requests are over, perhaps without their last event."""
        for request in requests:
            self._before.pop(request.identity, None)
            self._asked.pop(request.identity, None)
            self._first.discard(request.identity)

    def event(self, identity: str, model: ServedModel, event: TokenEvent) -> None:
        """Note what an event says of a request."""
        now = time.perf_counter()
        name = model.config.name
        before = self._before.get(identity, now)
        if event.tokens:
            first = identity not in self._first
            key = "time_to_first_token_seconds" if first else "inter_token_latency_seconds"
            self._observe(key, name, now - before)
            self._first.add(identity)
            self._before[identity] = now
        if event.finish_reason is not None:
            self._finished(identity, name, event)

    def collect(self) -> Iterable[Metric]:
        """Levels and totals of every engine, as they are now."""
        gauges = {
            name: GaugeMetricFamily(f"vllm:{name}", text, labels=_LABELS)
            for name, text in (
                ("num_requests_running", "requests that run"),
                ("num_requests_waiting", "requests that wait"),
                ("kv_cache_usage_perc", "share of the cache that requests hold, 1 is all of it"),
            )
        }
        counters = {
            name: CounterMetricFamily(f"vllm:{name}", text, labels=_LABELS)
            for name, text in (
                ("prompt_tokens", "tokens of prompts"),
                ("prompt_tokens_cached", "tokens of prompts that were found in the cache"),
                ("generation_tokens", "tokens of answers"),
                ("prefix_cache_queries", "tokens that were looked for in the cache"),
                ("prefix_cache_hits", "tokens that were found in the cache"),
                ("num_preemptions", "requests that lost their pages and began anew"),
                ("iterations", "steps"),
                ("spec_decode_num_draft_tokens", "guessed tokens that were run"),
                ("spec_decode_num_accepted_tokens", "guessed tokens that were right"),
            )
        }
        for key, text in (
            ("evictions", "times that entries of a request were evicted"),
            ("evicted_entries", "entries evicted, of each layer and KV head"),
        ):
            counters[key] = CounterMetricFamily(f"fivefold:{key}", text, labels=_LABELS)
        for name, engines in self._engines().items():
            labels, figures = (name, "0"), [engine.figures() for engine in engines]
            total = self._models.residency.past(name)
            for one in figures:
                total = total.plus(one)
            capacity = sum(one.cache.capacity for one in figures)
            used = sum(one.cache.used for one in figures)
            gauges["num_requests_running"].add_metric(labels, sum(one.running for one in figures))
            gauges["num_requests_waiting"].add_metric(labels, sum(one.waiting for one in figures))
            gauges["kv_cache_usage_perc"].add_metric(labels, used / max(capacity, 1))
            for key, value in (
                ("prompt_tokens", total.prompt_tokens),
                ("prompt_tokens_cached", total.cached_tokens),
                ("generation_tokens", total.output_tokens),
                ("prefix_cache_queries", total.prompt_tokens),
                ("prefix_cache_hits", total.cached_tokens),
                ("num_preemptions", total.preemptions),
                ("iterations", total.steps),
                ("spec_decode_num_draft_tokens", sum(total.guessed_by_place)),
                ("spec_decode_num_accepted_tokens", sum(total.accepted_by_place)),
                ("evictions", total.evictions),
                ("evicted_entries", total.evicted_entries),
            ):
                counters[key].add_metric(labels, value)
        return [*gauges.values(), *counters.values(), *residency_metrics(self._models)]

    def _engines(self) -> dict[str, list[AsyncEngine]]:
        """The engines of each name: none while its model is not in memory, several while one is leaving."""
        found: dict[str, list[AsyncEngine]] = {entry.config.name: [] for entry in self._models.table.local}
        for name in self._models.residency.names:
            found.setdefault(name, [])
        for name, model in self._models.residency.opened():
            found.setdefault(name, []).append(model.engine)
        return found

    def _finished(self, identity: str, name: str, event: TokenEvent) -> None:
        self._before.pop(identity, None)
        self._first.discard(identity)
        request = self._asked.pop(identity, None)
        reason = "abort" if event.finish_reason == "cancelled" else event.finish_reason
        self._ended.labels(name, "0", reason).inc()
        took = event.timings
        if took is None:
            return
        inference = took.prefill_seconds + took.decode_seconds
        for key, value in (
            ("e2e_request_latency_seconds", took.queue_seconds + inference),
            ("request_queue_time_seconds", took.queue_seconds),
            ("request_prefill_time_seconds", took.prefill_seconds),
            ("request_decode_time_seconds", took.decode_seconds),
            ("request_inference_time_seconds", inference),
            ("request_prompt_tokens", took.prompt_tokens),
            ("request_generation_tokens", took.output_tokens),
            ("request_prefill_kv_computed_tokens", took.prompt_tokens - took.cached_tokens),
        ):
            self._observe(key, name, value)
        if took.output_tokens > 1:
            self._observe("request_time_per_output_token_seconds", name,
                          took.decode_seconds / (took.output_tokens - 1))  # fmt: skip
        if request is not None and request.sampling.max_tokens is not None:
            self._observe("request_max_num_generation_tokens", name, request.sampling.max_tokens)

    def _observe(self, key: str, name: str, value: float) -> None:
        bound = self._bound.get((key, name))
        if bound is None:
            bound = self._bound[key, name] = self._histograms[key].labels(name, "0")
        bound.observe(value)
