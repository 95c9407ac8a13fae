"""The cache room: pages, page tables, shared prefixes, and steps turned into batches."""

from .paged import PagedCache
from .pages import OutOfPagesError, PagePool
from .prefix import PrefixTree
from .storage import Storage

__all__ = ["OutOfPagesError", "PagePool", "PagedCache", "PrefixTree", "Storage"]
