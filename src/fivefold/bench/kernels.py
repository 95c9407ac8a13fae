"""Matrix kernels by themselves: every format at several numbers of rows, held against what the machine can.

The roofline: no pass is faster than its weights' bytes over the read bandwidth, nor than its products over
the peak of the instruction set; both are measured in the same alternating rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fivefold.executor import LinearProbe, Probes

from .machine import describe_machine
from .rounds import alternate

SHAPE = (2048, 2048)
FEW_ROWS = 16
"""Up to so many rows a pass is short, so the shortest of three counts: an interruption is as long."""


@dataclass(frozen=True, slots=True)
class KernelSetup:
    """What is measured: formats, rising numbers of rows from 1, with which kernels, over how many bytes."""

    formats: Sequence[str]
    rows: Sequence[int]
    isa: str
    threads: int
    activations: str
    size: int


def measure_kernels(setup: KernelSetup, rounds: int) -> dict[str, Any]:
    """Seconds of a pass for each format and number of rows, and the machine's limits."""
    probes = Probes(setup.isa, setup.threads, setup.activations)
    machine = describe_machine()
    return {
        "work": "kernels",
        "processor": machine["processor"],
        "machine": machine,
        "instruction_set": setup.isa,
        "threads": setup.threads,
        "activations": setup.activations,
        "shape": list(SHAPE),
        "formats": {form: _measure_format(probes, setup, form, rounds) for form in setup.formats},
    }


def _measure_format(probes: Probes, setup: KernelSetup, form: str, rounds: int) -> dict[str, Any]:
    probe = probes.linear(form, SHAPE, setup.size, max(setup.rows))
    sides: dict[str, Callable[[int], float]] = {
        f"{rows} rows": partial(_pass, probe, rows) for rows in setup.rows
    }
    sides["bandwidth"] = lambda turn: probes.bandwidth(probe.weight_bytes)
    sides["peak"] = lambda turn: probes.peak(probe.numbers)
    sides["clock"] = lambda turn: probes.clock()
    found = {name: statistics.median(values) for name, values in alternate(sides, rounds).items()}
    bandwidth, peak, cycles = (found[name] for name in ("bandwidth", "peak", "clock"))
    lines = []
    for rows in setup.rows:
        seconds, products = found[f"{rows} rows"], probe.products * rows
        least = max(probe.weight_bytes / bandwidth, products / peak)
        lines.append(
            {
                "rows": rows,
                "seconds": round(seconds, 9),
                "over_one_row": round(seconds / found[f"{setup.rows[0]} rows"], 3),
                "bytes_per_second": round(probe.weight_bytes / seconds),
                "products_per_cycle": round(products / seconds / cycles / setup.threads, 2),
                "share_of_roofline": round(least / seconds, 3),
            }
        )
    return {
        "weight_bytes": probe.weight_bytes,
        "numbers": probe.numbers,
        "read_bandwidth": round(bandwidth),
        "peak_products_per_cycle": round(peak / cycles / setup.threads, 2),
        "clock": round(cycles),
        "rows": lines,
    }


def _pass(probe: LinearProbe, rows: int, turn: int) -> float:
    """One pass in seconds."""
    return min(probe.seconds(rows) for _ in range(3 if rows <= FEW_ROWS else 1))


def kernel_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The tables for people."""
    rows, columns = answer["shape"]
    yield (
        f"{answer['processor']}, {answer['instruction_set']}, {answer['threads']} threads, "
        f"{answer['activations']} activations, matrices of {rows} x {columns}"
    )
    for form, found in answer["formats"].items():
        megabytes, read, clock = (found[key] for key in ("weight_bytes", "read_bandwidth", "clock"))
        yield (
            f"{form}: {megabytes / 1e6:.0f} MB, read at {read / 1e9:.1f} GB/s; at most "
            f"{found['peak_products_per_cycle']:.0f} {found['numbers']} products a cycle and thread, "
            f"{clock / 1e9:.2f} GHz"
        )
        yield f"{'rows':>8}{'ms':>10}{'T(m)/T(1)':>12}{'GB/s':>8}{'products/cycle':>16}{'of roofline':>13}"
        for line in found["rows"]:
            yield (
                f"{line['rows']:>8}{line['seconds'] * 1e3:>10.3f}{line['over_one_row']:>12.2f}"
                f"{line['bytes_per_second'] / 1e9:>8.1f}{line['products_per_cycle']:>16.1f}"
                f"{line['share_of_roofline']:>13.0%}"
            )
