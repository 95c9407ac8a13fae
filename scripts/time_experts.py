"""How fast experts' matrices are multiplied, beside a dense matrix of as many numbers as a row's experts.

Bytes of the touched experts over time, and products a second and a cycle and thread; both in turn, medians.
The limit is the read bandwidth of the same pool of threads. On a machine that is busy with other things, one
thread and its processor time (--processor-time) still tell how the two compare, but not the cycles.
"""

from __future__ import annotations

import argparse
import statistics
import time

from fivefold.executor import Probes, allowed_threads, choose_isa, processor


def main() -> None:
    """Print a line for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", default="q4_0")
    parser.add_argument("--shape", default="128,8,768,2048", help="experts, chosen, rows, columns")
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--rows", default="1,4,16,64,256")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--activations", default="int8")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--processor-time", action="store_true")
    given = parser.parse_args()
    experts, chosen, rows, columns = map(int, given.shape.split(","))
    isa, threads = choose_isa(), given.threads or allowed_threads()
    clock = time.process_time if given.processor_time else time.perf_counter
    counts = [int(count) for count in given.rows.split(",")]
    probes = Probes(isa, threads, given.activations)
    sparse = probes.experts(given.format, (experts, chosen, rows, columns), given.copies, max(counts))
    size = given.copies * experts * sparse.expert_bytes
    dense = probes.linear(given.format, (chosen * rows, columns), size, max(counts))
    print(f"{processor().name}, {isa}, {threads} threads, {given.format}, {given.activations} activations")
    for count in counts:
        found: dict[str, list[float]] = {"sparse": [], "bytes": [], "dense": [], "read": [], "clock": []}
        for _ in range(given.rounds):
            seconds, touched = sparse.seconds(count, clock)
            found["sparse"].append(sparse.products * count / seconds)
            found["bytes"].append(touched / seconds)
            found["dense"].append(dense.products * count / dense.seconds(count, clock))
            found["read"].append(probes.bandwidth(size, 0.02))
            found["clock"].append(probes.clock(0.005))
        middle = {key: statistics.median(values) for key, values in found.items()}
        cycles = middle["clock"] * threads
        print(
            f"{count} rows: experts {middle['bytes'] / 1e9:.1f} GB/s of {middle['read'] / 1e9:.1f}, "
            f"{middle['sparse'] / 1e9:.1f} billion products a second, "
            f"{middle['sparse'] / cycles:.1f} a cycle; "
            f"dense {dense.weight_bytes / dense.products * middle['dense'] / count / 1e9:.1f} GB/s, "
            f"{middle['dense'] / 1e9:.1f} billion, {middle['dense'] / cycles:.1f}"
        )


if __name__ == "__main__":
    main()
