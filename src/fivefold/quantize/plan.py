"""A checkpoint held against a recipe: what becomes of each tensor, before anything is computed.

Choices fall back where K does not fill whole blocks of a format, and every fall-back is a note of one line.
What the output is like (which factors it can hold, what it does with a head) it says itself: `Output`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import ClassVar, Protocol

from fivefold.core.checkpoint import Bytes, Checkpoint, Tensor
from fivefold.core.errors import InputError
from fivefold.files import Layout, Outline
from fivefold.formats import format_of
from fivefold.quantize.choice import Choice, Recipe, best_choice, check_calibration
from fivefold.quantize.roles import Role, is_tied, role_of
from fivefold.quantize.targets import KEEP, target_of


@dataclass(frozen=True, slots=True)
class Item:
    """One tensor of the source and what becomes of it. `choice` None: its bytes are copied.

    `note` says what the reader of the plan would not expect.
    """

    source: Tensor
    role: Role
    choice: Choice | None
    note: str = ""

    @property
    def name(self) -> str:
        """The tensor's name in the source."""
        return self.source.name

    @property
    def numbers(self) -> int:
        """How many it has."""
        return prod(self.source.shape)

    @property
    def method(self) -> str:
        """The word for what is done."""
        return "copy" if self.choice is None else self.choice.method

    @property
    def format(self) -> str:
        """The word for what it is stored as."""
        return self.source.format if self.choice is None else self.choice.format


class Output(Protocol):
    """A kind of file that a plan can be written to.

    is_folder  if it is a folder of files.
    fine       what a matrix may be given there that deserves more bits than its own format has.
    """

    is_folder: ClassVar[bool]
    fine: ClassVar[tuple[Choice, ...]]

    def usual(self, role: Role, recipe: Recipe) -> Choice | None:
        """The choice for an embedding or a head that the recipe does not speak of; None keeps it."""

    def fallback(self, recipe: Recipe) -> tuple[str, ...]:
        """The formats to fall back to, in order, before a tensor is kept as it is."""

    def fitting(self, item: Item) -> Item:
        """The item as this output can hold it; InputError if it cannot."""

    def outlines(self, item: Item) -> Sequence[Outline]:
        """The tensors that it becomes there."""

    def pieces(self, item: Item, tensor: Tensor) -> Mapping[str, Bytes]:
        """The bytes of these tensors."""

    def layout(self, outlines: Sequence[Outline]) -> Layout:
        """The layout of the files."""

    def sharing(self, name: str) -> Sequence[str]:
        """The tensors that must have one factor with this one, itself among them; none if it has its own."""

    def finish(self, folder: Path, items: Sequence[Item]) -> None:
        """Write what belongs to the output beside its tensors into the folder of its files."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All items of a checkpoint in its order, and where they go."""

    checkpoint: Checkpoint
    recipe: Recipe
    output: Output
    items: tuple[Item, ...]
    layout: Layout

    @staticmethod
    def of(checkpoint: Checkpoint, recipe: Recipe, output: Output, items: Sequence[Item]) -> Plan:
        """The plan of these items, with their layout."""
        outlines = [outline for item in items for outline in output.outlines(item)]
        return Plan(checkpoint, recipe, output, tuple(items), output.layout(outlines))

    def bytes_of(self, item: Item) -> int:
        """Bytes that an item takes in the output, scales included."""
        return sum(self.layout.places[outline.name].size for outline in self.output.outlines(item))

    def size_as(self, item: Item) -> int:
        """Bytes of an item that the layout does not have."""
        outlines = self.output.outlines(item)
        return sum(format_of(each.format).bytes_for(prod(each.shape)) for each in outlines)

    def bytes_in(self, bits: float) -> int:
        """The budget of so many bits a number."""
        return int(bits * self.numbers / 8)

    @property
    def numbers(self) -> int:
        """Of all tensors."""
        return sum(item.numbers for item in self.items)


def make_plan(checkpoint: Checkpoint, recipe: Recipe, output: Output) -> Plan:
    """The plan; InputError for a rule that matches no matrix, or a text that is needed and missing."""
    check_calibration(recipe)
    tied = is_tied(checkpoint.tensors)
    if tied and recipe.head is not None and recipe.embedding not in (None, recipe.head):
        raise InputError(
            "the table of embeddings is the head too, and the recipe wants two formats of it",
            where=str(checkpoint.path), remedy="leave out --head, [head] or [embedding]",
        )  # fmt: skip
    matched: set[int] = set()
    items = []
    for tensor in checkpoint.tensors.values():
        item = output.fitting(_fallen(_item(tensor, recipe, output, tied, matched), recipe, output))
        items.append(item)
    for number, rule in enumerate(recipe.rules):
        if number not in matched:
            raise InputError(
                f"{rule.match.pattern!r} matches no matrix", where=rule.where,
                remedy="names are those of the source; --dry-run lists them",
            )  # fmt: skip
    if not any(item.choice for item in items):
        raise InputError(
            "there is nothing to quantize",
            where=str(checkpoint.path),
            remedy="check the source and the recipe",
        )
    plan = Plan.of(checkpoint, recipe, output, items)
    _check_budget(plan)
    return plan


def _check_budget(plan: Plan) -> None:
    """InputError if the smallest choice of formats is more than the recipe's budget."""
    bits = plan.recipe.budget_bits
    if bits is None:
        return
    least = sum(_least(plan, item) for item in plan.items)
    if least > plan.bytes_in(bits):
        raise InputError(
            f"a budget of {bits:g} bits a number is {plan.bytes_in(bits):,} bytes, and the smallest choice "
            f"takes {least:,}", where="budget_bits",
            remedy=f"give at least {math.ceil(8e3 * least / plan.numbers) / 1e3:g}, or a smaller [default]",
        )  # fmt: skip


def _least(plan: Plan, item: Item) -> int:
    """The fewest bytes that a budget may give an item."""
    own = plan.bytes_of(item)
    if item.choice is None or item.role != "matrix":
        return own
    finer = (plan.output.fitting(replace(item, choice=choice)) for choice in plan.output.fine)
    return min(own, *map(plan.size_as, finer))


def _item(tensor: Tensor, recipe: Recipe, output: Output, tied: bool, matched: set[int]) -> Item:
    """What the recipe says of a tensor; `matched` takes the numbers of the rules that match it."""
    role = role_of(tensor)
    if role == "rest":
        return Item(tensor, role, None)
    found = [number for number, rule in enumerate(recipe.rules) if rule.match.fullmatch(tensor.name)]
    matched.update(found)
    choice: Choice | None = recipe.default
    if found:
        choice = recipe.rules[found[0]].choice
    elif role == "head" or (role == "embedding" and tied):
        choice = recipe.head or _both(recipe, tied) or output.usual(role, recipe)
    elif role == "embedding":
        choice = recipe.embedding or output.usual(role, recipe)
    if choice is None or choice.format == KEEP:
        return Item(tensor, role, None)
    return Item(tensor, role, choice)


def _both(recipe: Recipe, tied: bool) -> Choice | None:
    """The embedding's choice where it is the head too."""
    return recipe.embedding if tied else None


def _fallen(item: Item, recipe: Recipe, output: Output) -> Item:
    """The item with a format whose blocks divide K; kept if there is none, or if it is stored so already."""
    choice = item.choice
    if choice is None:
        return item
    columns = item.source.shape[-1]
    note = item.note
    if columns % target_of(choice.format).block:
        fitting = [form for form in output.fallback(recipe) if columns % target_of(form).block == 0]
        asked = choice.format
        if not fitting:
            return replace(item, choice=None, note=f"kept: {columns} columns do not fill blocks of {asked}")
        choice = best_choice(fitting[0])
        note = f"{choice.format}: {columns} columns do not fill blocks of {asked}"
    if choice.format == item.source.format and not target_of(choice.format).scales:
        return replace(item, choice=None, note=note or f"kept: it is {choice.format} already")
    format_of(item.source.format, where=f"tensor {item.name}")
    return replace(item, choice=choice, note=note)
