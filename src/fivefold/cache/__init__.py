"""The cache room: pages, page tables, shared prefixes, and steps turned into batches."""

from .paged import PagedCache, Storage
from .pages import OutOfPagesError, PagePool
from .prefix import PrefixTree

__all__ = ["OutOfPagesError", "PagePool", "PagedCache", "PrefixTree", "Storage"]
