"""The figures of twins as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fivefold.bench.report import machine_line


def twins_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """What was chosen, quality, time alone and together, and the verdict."""
    yield machine_line(answer)
    chosen, test, alone = answer["chosen"], answer["test"], answer["alone"]
    if chosen["settings"]:
        plain = chosen["autoregressive"]
        yield f"validation, {chosen['records']} records: token by token F1 {plain['f1']:.4f}"
    for name, one in chosen["settings"].items():
        mark = "  <- chosen" if name == chosen["denoiser"] else ""
        yield f"  {name:<40} F1 {one['f1']:.4f}, {one['tokens_a_pass']:.2f} tokens a pass{mark}"
    yield (
        f"test, {test['records']} records of {test['sources']} sources: {test['bits']:.3f} bits a token "
        "under the autoregressive twin"
    )
    for name in ("autoregressive", "blocks"):
        one = test[name]
        own = f"{one['bits']:.3f} bits a token of what it wrote"
        yield f"  {name:<15} F1 {one['f1']:.4f}, whole {one['whole']:.1%}, {own}"
    gap = test["difference"]
    yield f"  difference in F1 {gap['value']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"
    yield f"  {test['identical']} of {test['records']} answers identical"
    for name, one in alone["sides"].items():
        yield (
            f"alone  {name:<19} {one['tokens_a_second']:.1f} tokens/s, {one['records_a_second']:.2f} "
            f"records/s, {one['tokens_a_pass']:.2f} tokens a pass"
        )
    yield f"alone  {alone['identical']} of {alone['records']} answers identical by all ways that are checked"
    for key, what in (("ratio", "tokens/s"), ("records_ratio", "records/s")):
        one = alone[key]
        interval = f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
        yield f"alone  blocks over autoregressive, {what}: {interval}"
    for count, one in answer["together"].items():
        rates = "; ".join(f"{name} {side['median']:.1f}" for name, side in one["sides"].items())
        yield f"{count} at once  {rates} tokens/s; blocks over autoregressive {one['ratio']:.2f}"
    yield ", ".join(
        f"{name.replace('_', ' ')}: {'yes' if holds else 'no'}" for name, holds in answer["verdict"].items()
    )
