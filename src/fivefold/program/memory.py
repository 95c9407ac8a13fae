"""Sharing memory between the buffers of a Program: which slot of the arena each buffer takes.

A buffer lives from the node that writes it to the last one that reads it; after that its slot may
hold another, or goes to the output of an op that works in place. Buffers that a caller wants after the
step keep their slot to the end. Greedy and in order, the smallest free slot that is wide enough; not
optimal, and the same every time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .program import Program


@dataclass(frozen=True, slots=True)
class Memory:
    """Slot of each buffer, and the width in numbers of each slot."""

    slots: dict[str, int]
    widths: tuple[int, ...]


def plan_memory(program: Program, keep: Iterable[str] = ()) -> Memory:
    """Slots for all buffers of the Program; those in `keep`, its inputs and outputs stay to the end."""
    end = len(program.nodes)
    last = {name: end for name in (*program.inputs, *program.outputs, *keep)}
    for index, node in enumerate(program.nodes):
        for name in (*node.inputs, *node.outputs):
            last[name] = max(last.get(name, index), index)
    slots: dict[str, int] = {}
    widths: list[int] = []
    free: list[int] = []

    def take(name: str) -> None:
        width = program.buffers[name].width
        fitting = [slot for slot in free if widths[slot] >= width]
        if fitting:
            chosen = min(fitting, key=lambda slot: (widths[slot], slot))
            free.remove(chosen)
        else:
            chosen = len(widths)
            widths.append(width)
        slots[name] = chosen

    for name in program.inputs:
        take(name)
    for index, node in enumerate(program.nodes):
        in_place = node.declaration.in_place and last[node.inputs[0]] == index
        if in_place:
            slots[node.outputs[0]] = slots[node.inputs[0]]
        for name in node.outputs if not in_place else ():
            take(name)
        for name in dict.fromkeys((*node.inputs, *node.outputs)):
            if last[name] == index and not (in_place and name == node.inputs[0]):
                free.append(slots[name])
    return Memory(slots, tuple(widths))
