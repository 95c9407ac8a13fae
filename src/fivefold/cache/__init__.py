"""Cache: pages, page tables, prefix sharing, eviction."""
