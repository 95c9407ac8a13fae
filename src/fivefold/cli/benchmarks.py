"""The commands `bench ...`, each kind of measurement in a module of its own."""

from . import (
    bench_eviction,
    bench_kernels,
    bench_parallel,
    bench_serve,
    bench_speed,
    bench_start,
    bench_twins,
)

__all__ = [
    "bench_eviction",
    "bench_kernels",
    "bench_parallel",
    "bench_serve",
    "bench_speed",
    "bench_start",
    "bench_twins",
]
