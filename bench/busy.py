"""Time one thread and several of fastconv beside a process that keeps a core busy.

    python bench/busy.py --rows gated_rnn attention_rnn
    python bench/busy.py --rows mid.b32 --passes forward --quiet

Both in one process, A B A B in blocks of at least 20 ms; the table gives the median and the
ninth decile of single calls. The other process spins on the last core, at normal priority, while
ours may run on all: so of two cores there is one and a half for us at best, and whoever is
waited for while it has lost its core costs a time slice of the system's, some milliseconds.
With --quiet nobody spins.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from compare import chosen
from peers import Fastconv

BLOCK_SECONDS = 0.02  # calls in turn with one number of threads


def block(run, threads, fc):
    """Seconds of each call of one block."""
    seconds = []
    with fc.num_threads(threads):
        while sum(seconds) < BLOCK_SECONDS:
            begin = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begin)
    return seconds


def measure(run, counts, fc, wanted):
    """Seconds of single calls, for each number of threads."""
    for threads in counts:
        block(run, threads, fc)
    seconds = {threads: [] for threads in counts}
    while sum(map(sum, seconds.values())) < wanted:
        for threads in counts:
            seconds[threads] += block(run, threads, fc)
    return seconds


def spin():
    """A process that never sleeps, on the last core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
    return process


def print_row(name, which, seconds):
    (one, several), middle = seconds.values(), statistics.median
    tails = [sorted(each)[len(each) * 9 // 10] for each in (one, several)]
    print(
        f"{name:20}{which:10}{1e6 * middle(one):10.0f}{1e6 * tails[0]:10.0f}"
        f"{1e6 * middle(several):10.0f}{1e6 * tails[1]:10.0f}{middle(one) / middle(several):8.2f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", nargs="+", default=["*"], help="names, patterns or kinds, such as conv"
    )
    parser.add_argument("--passes", nargs="+", help="forward, prepared, backward, ...; else all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--seconds", type=float, default=2, help="for each row and pass")
    parser.add_argument("--quiet", action="store_true", help="nothing spins")
    options = parser.parse_args()

    counts = (1, options.threads)
    heads = (f"{threads} thread{'s' * (threads > 1)}" for threads in counts)
    print(
        f"{'row':20}{'pass':10}"
        + "".join(f"{head + ' us':>10}{'90 %':>10}" for head in heads)
        + "   ratio"
    )
    ours = Fastconv(options.threads)
    spinning = None if options.quiet else spin()
    try:
        for row in chosen(options.rows):
            for which in row.passes:
                if options.passes and which not in options.passes:
                    continue
                run = getattr(ours, row.kind)(row, which, *row.operands(options.dtype))
                print_row(row.name, which, measure(run, counts, ours.fc, options.seconds))
    finally:
        if spinning:
            spinning.kill()


if __name__ == "__main__":
    main()
