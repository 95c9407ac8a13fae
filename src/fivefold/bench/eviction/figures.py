"""Figures over prompts: for each policy and budget, and for the lookahead module against each rival.

All comparisons are paired: they are taken over the prompts that both have. The words are those of
docs/decisions/0011-how-eviction-is-measured.md; the keys are listed in docs/bench.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .statistics import Summary, paired, verdict, wilson

OURS = "lookahead"
MEASURES = {"kl": True, "recall": False, "right": False}
"""What is compared, and whether less of it is better."""
ROUNDED = 6
Record = Mapping[str, Any]


def figures(records: Sequence[Record], policies: Sequence[str], budgets: Sequence[int]) -> dict[str, Any]:
    """Counts, and by budget `policies` and `against`; the same for each of the `sets` without the latter."""
    used = [record for record in records if record["policies"]]
    sets = {name: [record for record in used if record["set"] == name] for name in _names(used)}
    return {
        "prompts": len(used),
        "documents": len({record["document"] for record in used}),
        "left_out": len(records) - len(used),
        "asked": sum(record["right"] is not None for record in used),
        "solved": sum(record["right"] is True for record in used),
        "budgets": {str(budget): _at(used, policies, str(budget)) for budget in budgets} if used else {},
        "sets": {
            name: {
                "prompts": len(own),
                "solved": sum(record["right"] is True for record in own),
                "asked": sum(record["right"] is not None for record in own),
                "budgets": {
                    str(budget): {policy: _figure(own, policy, str(budget)) for policy in policies}
                    for budget in budgets
                },
            }
            for name, own in sets.items()
        },
    }  # fmt: skip


def _names(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(str(record["set"]) for record in records))


def _at(records: Sequence[Record], policies: Sequence[str], budget: str) -> dict[str, Any]:
    """All policies at one budget, and ours against each."""
    found: dict[str, Any] = {"policies": {policy: _figure(records, policy, budget) for policy in policies}}
    if OURS in policies:
        rivals = [policy for policy in policies if policy != OURS]
        found["against"] = {rival: against(records, OURS, rival, budget) for rival in rivals}
    return found


def _figure(records: Sequence[Record], policy: str, budget: str) -> dict[str, Any]:
    """One policy: recall and KL over the prompts, retrieval with Wilson's interval, entries that it keeps."""
    each = [record["policies"][policy][budget] for record in records]
    judged = [one["right"] for one in each if one["right"] is not None]
    low, high = wilson(sum(judged), len(judged))
    return {
        "recall": _rounded(asdict(Summary.of([one["recall"] for one in each]))),
        "kl": _rounded(asdict(Summary.of([one["kl"] for one in each]))),
        "agreement": round(sum(one["agreement"] for one in each) / len(each), ROUNDED),
        "retrieval": _rounded({"solved": sum(judged), "of": len(judged), "low": low, "high": high}),
        "kept": round(sum(one["kept"] for one in each) / len(each), 2),
    }  # fmt: skip


def against(records: Sequence[Record], ours: str, rival: str, budget: str) -> dict[str, Any]:
    """Ours less the rival's, by measure: the mean difference, its interval, the verdict; None without any."""
    found: dict[str, Any] = {}
    for measure, less in MEASURES.items():
        pairs = [
            (record["policies"][ours][budget][measure], record["policies"][rival][budget][measure])
            for record in records
        ]
        known = [(float(a), float(b)) for a, b in pairs if a is not None and b is not None]
        name = "retrieval" if measure == "right" else measure
        if not known:
            found[name] = None
            continue
        difference = paired([a for a, _ in known], [b for _, b in known])
        found[name] = {**_rounded(asdict(difference)), "verdict": verdict(difference, less)}
    return found


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, ROUNDED) if isinstance(value, float) else value for name, value in values.items()
    }


def eviction_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The figures for people: a table for each budget, then the paired differences."""
    yield f"{answer['model']}, {answer['processor']}, {answer['instruction_set']}"
    yield (
        f"{answer['prompts']} prompts of {answer['documents']} documents; the full cache answers "
        f"{answer['solved']} of {answer['asked']} rightly"
    )
    yield from answer["notes"]
    wide = max(map(len, ("policy", *answer["policies"])))
    for budget, found in answer["budgets"].items():
        yield ""
        yield f"budget {budget}"
        yield f"{'policy':<{wide}}  recall   KL median [quartiles]        mean     retrieval"
        for name, one in found["policies"].items():
            yield f"{name:<{wide}}  {_row(one)}"
        for rival, differences in found.get("against", {}).items():
            yield f"{OURS} - {rival:<{wide}}  " + ";  ".join(_compared(differences))


def _row(one: Mapping[str, Any]) -> str:
    kl, kept = one["kl"], one["retrieval"]
    spread = f"{kl['median']:.4f} [{kl['low']:.4f}, {kl['high']:.4f}]"
    share = f"{kept['solved']}/{kept['of']} [{kept['low']:.2f}, {kept['high']:.2f}]" if kept["of"] else "-"
    return f"{one['recall']['mean']:.3f}    {spread:<26}  {kl['mean']:.4f}   {share}"


def _compared(differences: Mapping[str, Any]) -> Iterator[str]:
    for measure, one in differences.items():
        if one is None:
            continue
        yield f"{measure} {one['mean']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}] {one['verdict']}"
