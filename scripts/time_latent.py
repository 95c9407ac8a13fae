"""How fast attention over latents is: one layer of DeepSeek's shape, rows of one sequence at some depth.

Products a second, and a cycle and thread; the limit is what a processor makes of float products in registers.
On a machine that is busy with other things, one thread and its processor time (--processor-time) are left.
"""

from __future__ import annotations

import argparse
import statistics
import time

from fivefold.executor import Probes, allowed_threads, choose_isa, processor


def main() -> None:
    """Print a line for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="128,576,512", help="heads, key, value")
    parser.add_argument("--depth", type=int, default=1024)
    parser.add_argument("--rows", default="1,8,32")
    parser.add_argument("--format", default="f16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--processor-time", action="store_true")
    given = parser.parse_args()
    isa, threads = choose_isa(), given.threads or allowed_threads()
    clock = time.process_time if given.processor_time else time.perf_counter
    heads, key, value = map(int, given.shape.split(","))
    counts = [int(count) for count in given.rows.split(",")]
    probes = Probes(isa, threads, "float")
    latents = probes.latents(given.format, (heads, key, value), given.depth, max(counts))
    print(f"{processor().name}, {isa}, {threads} threads, {given.format} entries, depth {given.depth}")
    for count in counts:
        found = [latents.products(count) / latents.seconds(count, clock) for _ in range(given.rounds)]
        peaks = [probes.peak("float", 0.05) for _ in range(given.rounds)]
        middle = statistics.median(found)
        cycles = statistics.median(probes.clock(0.005) for _ in range(given.rounds)) * threads
        print(
            f"{count} rows: {middle / 1e9:.1f} billion products a second, {middle / cycles:.1f} a cycle; "
            f"in registers {statistics.median(peaks) / 1e9:.1f} billion"
        )


if __name__ == "__main__":
    main()
