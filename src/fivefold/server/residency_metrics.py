"""Figures of which models are in memory, and of the engines elsewhere: what vLLM has no names for."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .models import Models
from .table import UpstreamEntry

_LABELS = ("model_name", "engine")


def residency_metrics(models: Models) -> list[Metric]:
    """One sample for each name; of upstreams one for each status that they answered with."""
    loaded = GaugeMetricFamily("fivefold:model_loaded", "1 while the model is in memory", labels=_LABELS)
    size = GaugeMetricFamily("fivefold:model_bytes", "bytes of weights and cache when loaded", labels=_LABELS)
    loads = CounterMetricFamily("fivefold:model_loads", "times the model was loaded", labels=_LABELS)
    up = GaugeMetricFamily("fivefold:upstream_up", "1 while the engine can be reached", labels=_LABELS)
    running = GaugeMetricFamily(
        "fivefold:upstream_running", "requests under way with the engine", labels=_LABELS
    )
    asked = CounterMetricFamily(
        "fivefold:upstream_answers", "answers of the engine, by status", labels=(*_LABELS, "status")
    )
    for entry in models.table.entries:
        name = entry.config.name
        labels = (name, "0")
        if isinstance(entry, UpstreamEntry):
            up.add_metric(labels, float(bool(entry.upstream.up)))
            running.add_metric(labels, entry.upstream.running)
            for status, count in entry.upstream.statuses.items():
                asked.add_metric((*labels, status), count)
            continue
        loaded.add_metric(labels, float(models.state(entry) == "loaded"))
        size.add_metric(labels, entry.recipe.bytes)
        loads.add_metric(labels, models.residency.loads.get(name, 0))
    return [loaded, size, loads, up, running, asked]
