"""Patterns of module names: regular expressions, as compressed-tensors has them, and lists with `*`.

Patterns come from strangers, and Python's own matcher can take years with one. Here all places of a name are
followed at once, as the bits of a number, so that the time is bounded by the two lengths. What is taken means
what it means to `re.match`: characters, escapes, classes, `.`, groups, alternatives, repeats (greedy or lazy,
which is the same when only asked whether), `^`, `$`, and looking ahead. What refers or looks back is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from functools import reduce

PATTERN_LIMIT = 2000
NAME_LIMIT = 500
"""Characters of a pattern, and of a name that is asked about."""

_DEPTH_LIMIT, _REPEAT_LIMIT, _TURNS_LIMIT = 8, 64, 1000
_CLASSES = {"d": str.isdecimal, "w": lambda c: c.isalnum() or c == "_", "s": str.isspace}


class PatternError(ValueError):
    """A pattern that is not understood."""


class Name:
    """A name to be asked about, and its places: bit i stands before character i."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.end = 1 << len(text)
        self._left = _TURNS_LIMIT
        self._at: dict[str, int] = {}
        self._known: dict[Callable[[str], bool], int] = {}
        for place, character in enumerate(text):
            self._at[character] = self._at.get(character, 0) | 1 << place

    def at(self, character: str) -> int:
        """The places before a character."""
        return self._at.get(character, 0)

    def where(self, taken: Callable[[str], bool]) -> int:
        """The places before characters that are taken."""
        if taken is _no_line_end:
            return (self.end - 1) & ~self.at("\n")
        found = self._known.get(taken)
        if found is None:
            found = sum(places for character, places in self._at.items() if taken(character))
            self._known[taken] = found
        return found

    def turn(self) -> None:
        """Count a turn of a loop; PatternError when they have been too many."""
        self._left -= 1
        if self._left < 0:
            raise PatternError("its loops in loops have no end in sight")


_Node = Callable[[Name, int], int]
"""Where a part of a pattern can end, by where it can begin."""


class Pattern:
    """A pattern, ready to be asked. PatternError if it is not understood."""

    def __init__(self, text: str) -> None:
        if len(text) > PATTERN_LIMIT:
            raise PatternError(f"it has {len(text)} characters")
        self._node = _Parser(text).whole()

    def matches(self, name: Name) -> bool:
        """Whether it matches where the name begins, as `re.match` would; PatternError after too long."""
        return len(name.text) <= NAME_LIMIT and self._node(name, 1) != 0


class _Parser:
    """Reads a pattern from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._depth = 0

    def whole(self) -> _Node:
        node = self._alternatives()
        if self._place < len(self._text):
            raise PatternError(f"a {self._text[self._place]} at {self._place} closes nothing")
        return node

    def _next(self) -> str:
        if self._place >= len(self._text):
            raise PatternError("it ends too early")
        self._place += 1
        return self._text[self._place - 1]

    def _skip(self, text: str) -> bool:
        found = self._text.startswith(text, self._place)
        self._place += len(text) if found else 0
        return found

    def _alternatives(self) -> _Node:
        self._depth += 1
        if self._depth > _DEPTH_LIMIT:
            raise PatternError(f"groups lie more than {_DEPTH_LIMIT} deep")
        ways = [self._sequence()]
        while self._skip("|"):
            ways.append(self._sequence())
        self._depth -= 1
        return lambda name, places: reduce(lambda found, way: found | way(name, places), ways, 0)

    def _sequence(self) -> _Node:
        steps: list[_Node] = []
        while self._place < len(self._text) and self._text[self._place] not in "|)":
            steps.append(self._repeated(self._one()))
        return lambda name, places: reduce(lambda found, step: step(name, found), steps, places)

    def _one(self) -> _Node:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return _Taking(self._set())
        if character == ".":
            return _Taking(_no_line_end)
        if character == "^":
            return lambda name, places: places & 1
        if character == "$":
            return lambda name, places: places & name.end
        if character == "\\":
            return _Taking(self._escape())
        if character in "*+?{":
            raise PatternError(f"the {character} at {self._place - 1} repeats nothing")
        return lambda name, places: (places & name.at(character)) << 1

    def _group(self) -> _Node:
        ahead = self._skip("?=")
        never = not ahead and self._skip("?!")
        if not (ahead or never) and not self._skip("?:") and self._text.startswith("?", self._place):
            raise PatternError(f"the group at {self._place - 1} is of a kind that is not taken")
        node = self._alternatives()
        if not self._skip(")"):
            raise PatternError("a group is not closed")
        return _looking(node, ahead) if ahead or never else node

    def _escape(self) -> Callable[[str], bool]:
        character = self._next()
        kind = _CLASSES.get(character.lower())
        if kind is not None:
            wanted = character.islower()
            return lambda c: kind(c) == wanted
        if character.isalnum():
            raise PatternError(f"the escape \\{character} is not taken")
        return lambda c: c == character

    def _set(self) -> Callable[[str], bool]:
        wanted = not self._skip("^")
        kinds = [self._range()]  # whatever comes first belongs to the set, also a bracket that would close it
        while not self._skip("]"):
            kinds.append(self._range())
        return lambda c: any(kind(c) for kind in kinds) == wanted

    def _range(self) -> Callable[[str], bool]:
        first = self._next()
        if first == "\\":
            return self._escape()
        if not self._skip("-"):
            return lambda c: c == first
        if self._text.startswith("]", self._place):
            return lambda c: c in (first, "-")
        last = self._next()
        if last in "\\[" or last < first:
            raise PatternError(f"the range {first}-{last} is not taken")
        return lambda c: first <= c <= last

    def _repeated(self, node: _Node) -> _Node:
        least, most = 1, 1
        if self._skip("*"):
            least, most = 0, -1
        elif self._skip("+"):
            least, most = 1, -1
        elif self._skip("?"):
            least, most = 0, 1
        elif self._skip("{"):
            least, most = self._bounds()
        else:
            return node
        self._skip("?")
        if self._text.startswith(("*", "+", "?", "{"), self._place):
            raise PatternError(f"two repeats follow each other at {self._place}")
        return _repeating(node, least, most)

    def _bounds(self) -> tuple[int, int]:
        found = re.compile(r"(\d{1,3})(,?)(\d{0,3})\}").match(self._text, self._place)
        if found is None:
            raise PatternError(f"the repeat at {self._place - 1} is malformed")
        self._place = found.end()
        least = int(found[1])
        most = int(found[3]) if found[3] else -1 if found[2] else least
        if most > _REPEAT_LIMIT or least > _REPEAT_LIMIT or 0 <= most < least:
            raise PatternError(f"a repeat of {found[0][:-1]} is not taken")
        return least, most


def _no_line_end(character: str) -> bool:
    """What a `.` takes."""
    return character != "\n"


class _Taking:
    """One character of those that are taken."""

    def __init__(self, taken: Callable[[str], bool]) -> None:
        self._taken = taken

    def __call__(self, name: Name, places: int) -> int:
        return (places & name.where(self._taken)) << 1

    def run(self, name: Name, places: int) -> int:
        """Any number of such characters: a carry runs through neighbouring bits to the end of each run."""
        taken = name.where(self._taken)
        first = places & taken
        return places | first | ((first + taken) ^ taken)


def _looking(node: _Node, wanted: bool) -> _Node:
    """Stays where it is, at the places from which the node can be followed, or cannot."""

    def look(name: Name, places: int) -> int:
        found = 0
        while places:
            name.turn()
            lowest = places & -places
            places ^= lowest
            if (node(name, lowest) != 0) == wanted:
                found |= lowest
        return found

    return look


def _repeating(node: _Node, least: int, most: int) -> _Node:
    def repeat(name: Name, places: int) -> int:
        for _ in range(least):
            name.turn()
            places = node(name, places)
        if most < 0 and isinstance(node, _Taking):
            return node.run(name, places)
        reached, new = places, places
        turns = 0
        while new and turns != most - least:
            name.turn()
            new = node(name, new) & ~reached
            reached |= new
            turns += 1
        return reached

    return repeat


class Listed:
    """A list of modules: by their names, by those of modules that they lie in, or with `*` for anything."""

    def __init__(self, entries: Iterable[str]) -> None:
        entries = list(entries)
        self._names = {entry for entry in entries if "*" not in entry}
        self._wild = [re.compile(translate(entry)) for entry in entries if "*" in entry]

    def __contains__(self, module: str) -> bool:
        return any(outer in self._names for outer in enclosing(module)) or any(
            pattern.match(module) for pattern in self._wild
        )


def enclosing(module: str) -> Iterable[str]:
    """A module's name and those of the modules that it lies in, from the inside out."""
    while module:
        yield module
        module = module.rpartition(".")[0]
