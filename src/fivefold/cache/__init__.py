"""The cache room: pages, page tables, and steps turned into batches."""

from .paged import PagedCache, Storage
from .pages import OutOfPagesError, PagePool

__all__ = ["OutOfPagesError", "PagePool", "PagedCache", "Storage"]
