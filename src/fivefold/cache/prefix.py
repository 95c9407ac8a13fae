"""The prefix tree: whole pages of entries by the tokens that lead to them, for sequences that begin alike.

A node is one page of tokens after its parent's, and holds the pages (of every group and table) with their
entries. Keys are the tokens themselves, not hashes of them, so nothing is ever found that is not
the same. Each salt has a root of its own. A sequence holds the nodes it uses from the root on, so a node
that nobody uses has nobody below it either; such nodes are kept for those who come, and given up leaf
by leaf, the least recently used first, when pages are needed.

Of a group with a window only the pages are wanted that the next row sees. Sequences let go of the others,
and the tree gives those up alone, so that a node may have no pages of such a group. Nothing is found that
ends where some are missing.

The tree holds pages by the pools it is given, and knows neither sequences nor entries.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from fivefold.core.batch import Int32
from fivefold.core.layout import CacheGroup

from .pages import PagePool

MOST_COMPARED = 64
"""Children that are looked at for a part of a page; the newest ones."""

Pages = dict[str, tuple[int, ...]]
"""A page of each table, by the group's name; groups with a window may be missing."""


class Node:
    """One page of tokens under its parent; a root has none, and its salt for a key."""

    __slots__ = ("children", "key", "pages", "parent", "tick", "users")

    def __init__(self, parent: Node | None, key: bytes, pages: Pages) -> None:
        self.parent = parent
        self.key = key
        self.pages = pages
        self.children: dict[bytes, Node] = {}
        self.users = 0
        self.tick = 0


class PrefixTree:
    """All salts' nodes over the pools of one cache; `page_size` tokens a node, the same in all `groups`."""

    def __init__(
        self, pools: Mapping[str, PagePool], page_size: int, groups: Sequence[CacheGroup] = ()
    ) -> None:
        self._pools = pools
        self._size = page_size
        self._windows = [group for group in groups if group.window is not None]
        self._loose: dict[str, deque[tuple[int, Node]]] = {group.name: deque() for group in self._windows}
        self._roots: dict[bytes, Node] = {}
        self._leaves: list[tuple[int, int, Node]] = []  # a heap; entries may be out of date
        self._ticks = 0
        self._offers = 0
        self.nodes = 0

    def find(self, tokens: Int32, salt: str) -> tuple[list[Node], int]:
        """The nodes that hold the longest beginning of (T,) `tokens`, and how many tokens that is.

        The last node may agree in a part only. The nodes are not held yet. Rows that follow find all
        that their windows show, also if they begin up to a page before.
        """
        return self._whole(*self._longest(tokens, salt))

    def _longest(self, tokens: Int32, salt: str) -> tuple[list[Node], int]:
        node = self._roots.get(_salt_key(salt))
        found: list[Node] = []
        count = 0
        while node is not None and count < len(tokens):
            child = node.children.get(tokens[count : count + self._size].tobytes())
            if child is None:
                child, agreed = self._nearest(node, tokens[count : count + self._size])
                count += agreed
                return (found if child is None else [*found, child]), count
            found.append(child)
            count += self._size
            node = child
        return found, count

    def _whole(self, found: list[Node], count: int) -> tuple[list[Node], int]:
        """The same, shortened until no page is missing that windows show."""
        while True:
            missing = [
                place
                for group in self._windows
                for place in range(group.passed(count - self._size), len(found))
                if group.name not in found[place].pages
            ]
            if not missing:
                return found, count
            found, count = found[: max(missing)], max(missing) * self._size

    def hold(self, nodes: Sequence[Node]) -> None:
        """One more sequence uses these nodes; that it holds their pages is its own matter."""
        for node in nodes:
            node.users += 1

    def let_go(self, nodes: Sequence[Node]) -> None:
        """A sequence uses these nodes no longer; its hold on their pages is its own matter."""
        self._ticks += 1
        for node in reversed(nodes):
            node.users -= 1
            node.tick = self._ticks
            if node.users == 0:
                self._offer(node)
                self._prune(node)

    def lone(self, nodes: Sequence[Node]) -> list[Node]:
        """Those last ones of a path that only one sequence uses, and that nothing else follows."""
        first = len(nodes)
        while (
            first and nodes[first - 1].users == 1 and len(nodes[first - 1].children) <= (first < len(nodes))
        ):
            first -= 1
        return list(nodes[first:])

    def drop(self, nodes: Sequence[Node]) -> None:
        """A sequence uses the nodes of this path no longer, and `lone` ones leave the tree at once."""
        lone = self.lone(nodes)
        self.let_go(nodes)
        for node in reversed(lone):
            if node.parent is not None:
                self._remove(node)

    def add(self, parent: Node | None, salt: str, tokens: Int32, pages: Pages) -> tuple[Node, bool]:
        """The node of (page_size,) `tokens` under `parent` (None: the salt's root), and whether it is new.

        The tree then holds `pages` too: all of a new one, those that are missing of another. Either way the
        caller uses it.
        """
        above = self._root(salt) if parent is None else parent
        key = tokens.tobytes()
        node = above.children.get(key)
        if node is not None:
            for name in pages.keys() - node.pages.keys():
                node.pages[name] = pages[name]
                for page in pages[name]:
                    self._pools[name].keep(page)
            self.hold([node])
            return node, False
        node = Node(above, key, pages)
        node.users = 1
        above.children[key] = node
        self.nodes += 1
        for pool, page in self._pages(node):
            pool.keep(page)
        return node, True

    def give_up(self) -> bool:
        """Let go of the leaf that was unused for longest; False if there is none."""
        while self._leaves:
            tick, _, node = heapq.heappop(self._leaves)
            if node.tick != tick or node.users or node.children or node.parent is None:
                continue
            self._prune(self._remove(node))
            return True
        return False

    def strip(self, name: str) -> bool:
        """Give up one node's pages of a group with a window that no sequence holds; False if there are none.

        Those of nodes that were never let go come first, then the ones let go for longest.
        """
        pool, queue = self._pools[name], self._loose[name]
        for looked in (False, True):
            while queue:
                tick, node = queue.popleft()
                if node.tick == tick and any(map(pool.is_loose, node.pages.get(name, ()))):
                    for page in node.pages.pop(name):
                        pool.give_up(page)
                    self._prune(node)
                    return True
            if not looked:
                loose = [node for node in self._all() if any(map(pool.is_loose, node.pages.get(name, ())))]
                queue.extend((node.tick, node) for node in sorted(loose, key=lambda node: node.tick))
        return False

    def _remove(self, node: Node) -> Node:
        """Take a leaf out, and give its pages up; what was above it."""
        parent, node.parent = node.parent, None
        assert parent is not None
        del parent.children[node.key]
        self.nodes -= 1
        for pool, page in self._pages(node):
            pool.give_up(page)
        node.pages = {}
        if parent.parent is not None and parent.users == 0:
            self._offer(parent)
        elif parent.parent is None and not parent.children:
            del self._roots[parent.key]
        return parent

    def _prune(self, node: Node) -> None:
        """Take out a leaf that nobody uses and that has no pages left, and then those above it."""
        while node.parent is not None and not (node.users or node.children or node.pages):
            node = self._remove(node)

    def held_pages(self) -> list[tuple[str, int]]:
        """Every page that the tree holds, with its group."""
        return [(name, page) for node in self._all() for name, pages in node.pages.items() for page in pages]

    def check_integrity(self, users: Mapping[int, int]) -> None:
        """AssertionError unless counts and links fit; `users` counts sequences by the id of a node."""
        nodes = self._all()
        assert self.nodes == len(nodes), "a node is lost"
        offered = {id(node) for tick, _, node in self._leaves if tick == node.tick}
        for node in nodes:
            assert node.users == users.get(id(node), 0), "a node has other users than it counts"
            assert all(child.parent is node for child in node.children.values())
            assert all(child.users <= node.users for child in node.children.values())
            assert node.users or node.children or id(node) in offered, "an unused leaf cannot be given up"
        assert all(root.children for root in self._roots.values()), "an empty root is kept"

    def _nearest(self, node: Node, tokens: Int32) -> tuple[Node | None, int]:
        """The child that agrees with the most of the tokens, and with how many."""
        best: Node | None = None
        most = 0
        for child in islice(reversed(node.children.values()), MOST_COMPARED):
            differ = np.frombuffer(child.key, np.int32)[: len(tokens)] != tokens
            agreed = int(differ.argmax()) if differ.any() else len(tokens)
            if agreed > most:
                best, most = child, agreed
        return best, most

    def _root(self, salt: str) -> Node:
        key = _salt_key(salt)
        return self._roots.setdefault(key, Node(None, key, {}))

    def _pages(self, node: Node) -> Iterator[tuple[PagePool, int]]:
        for name, pages in node.pages.items():
            for page in pages:
                yield self._pools[name], page

    def _offer(self, node: Node) -> None:
        """Remember an unused leaf; others are offered when they become one."""
        if node.children:
            return
        if len(self._leaves) > 2 * self.nodes + 64:
            self._leaves = [
                entry for entry in self._leaves if entry[0] == entry[2].tick and entry[2].parent is not None
            ]
            heapq.heapify(self._leaves)
        self._offers += 1
        heapq.heappush(self._leaves, (node.tick, self._offers, node))

    def _all(self) -> list[Node]:
        found: list[Node] = []
        left = list(self._roots.values())
        while left:
            children = left.pop().children.values()
            found.extend(children)
            left.extend(children)
        return found


def _salt_key(salt: str) -> bytes:
    return salt.encode("utf-8", "surrogatepass")
