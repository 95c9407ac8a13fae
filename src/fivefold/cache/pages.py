"""The pool of pages of one cache group: which are free and who holds the others.

Pages are numbers; the memory behind them belongs to an executor's storage. A page may be held more
than once (by sequences that share it, and by the prefix tree), and returns to the pool when its last
holder lets go. The tree's holds are counted apart, so that the pool knows how many pages would be free
without them.
"""

from __future__ import annotations

from collections.abc import Sequence

from fivefold.core.errors import FivefoldError


class OutOfPagesError(FivefoldError):
    """The pool has no free page; the caller may free some and try again."""


class PagePool:
    """`count` pages, numbered from 0."""

    def __init__(self, count: int) -> None:
        self._holders = [0] * count
        self._keepers = [0] * count
        self._kept = 0
        self._free = list(range(count - 1, -1, -1))

    @property
    def count(self) -> int:
        """All pages."""
        return len(self._holders)

    @property
    def page_free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    @property
    def page_kept(self) -> int:
        """Pages that only the prefix tree holds."""
        return self._kept

    def take(self, count: int) -> list[int]:
        """Hold that many free pages; all or none."""
        if count > len(self._free):
            raise OutOfPagesError(
                f"the cache has {len(self._free)} free pages and {count} are needed",
                remedy="shorten the text or give the cache more memory",
            )
        taken = [self._free.pop() for _ in range(count)]
        for page in taken:
            self._holders[page] = 1
        return taken

    def share(self, page: int) -> None:
        """Hold a held page once more."""
        assert self._holders[page] > 0, "a free page cannot be shared"
        self._kept -= self._holders[page] == self._keepers[page]
        self._holders[page] += 1

    def holders(self, page: int) -> int:
        """How many would see it change."""
        return self._holders[page]

    def is_loose(self, page: int) -> bool:
        """Whether only the prefix tree holds it."""
        return 0 < self._keepers[page] == self._holders[page]

    def release(self, page: int) -> None:
        """Let go of a page once."""
        assert self._holders[page] > self._keepers[page], "a page that is not held cannot be released"
        self._holders[page] -= 1
        if self._holders[page] == 0:
            self._free.append(page)
        else:
            self._kept += self._holders[page] == self._keepers[page]

    def keep(self, page: int) -> None:
        """Hold a held page once more, for the prefix tree."""
        self.share(page)
        self._keepers[page] += 1

    def give_up(self, page: int) -> None:
        """Let go of a page once that was held by `keep`."""
        assert self._keepers[page] > 0, "a page that is not kept cannot be given up"
        self._kept -= self._holders[page] == self._keepers[page]
        self._keepers[page] -= 1
        self.release(page)

    def check_integrity(self, held: Sequence[int], kept: Sequence[int]) -> None:
        """AssertionError unless all counts fit the sequences' pages `held` and the tree's `kept`."""
        keepers = [0] * len(self._holders)
        for page in kept:
            keepers[page] += 1
        assert keepers == self._keepers, "pages are kept more or less often than the tree says"
        counted = list(keepers)
        for page in held:
            counted[page] += 1
        assert counted == self._holders, "pages are held more or less often than the tables say"
        only = sum(0 < keeps == holds for keeps, holds in zip(keepers, counted, strict=True))
        assert only == self._kept, "the pages that only the tree holds are counted wrongly"
        assert sorted(self._free) == [page for page, holders in enumerate(counted) if not holders]
