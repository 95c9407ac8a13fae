"""Parallel decoding: what checked guesses bring, on which texts, and that no token changes by them."""

from .prompts import DOMAINS, domain_prompts
from .report import parallel_lines
from .run import Parallel, measure_parallel

__all__ = ["DOMAINS", "Parallel", "domain_prompts", "measure_parallel", "parallel_lines"]
