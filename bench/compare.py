"""Time fastconv against another library, row by row, in one run.

    python bench/compare.py torch
    python bench/compare.py jax --rows conv --passes backward --threads 2
    python bench/compare.py fastconv --dtype float64 --peer-dtype float32
    python bench/compare.py fastconv --threads 2 --peer-threads 1

The other libraries are those of the extra `peers`: pip install -e '.[bench,peers]'.

Each side lives in a process of its own, on the first so many cores. Samples alternate, ours,
theirs, ours, theirs, so that whatever slows the machine slows both; each lasts at least 20 ms.
The table gives medians; ratio above 1 says that fastconv is faster. GFLOP/s counts the operations
of the plain sum of products; the peak is that of one core (peak.py) times the threads. The error
is the largest, over the largest result, against our direct algorithm in float64. Scratch is what
a call of ours takes besides its operands.
"""

import argparse
import fnmatch
import json
import multiprocessing
import os
import statistics
import sys

import peak
from peers import PEERS, serve
from workloads import ROWS

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "FASTCONV_NUM_THREADS",
)


class Side:
    """One library with one number of threads and one dtype, in a process of its own."""

    def __init__(self, peer, threads, dtype):
        self.peer, self.threads, self.dtype = peer, threads, dtype
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))  # the child inherits them
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, peer, threads), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, *request):
        try:
            self.connection.send(request)
            return self.connection.recv()
        except (EOFError, OSError):
            sys.exit(f"{self.peer} stopped at {request}; its message is above")

    def close(self):
        self.connection.close()
        self.process.join()


def measure(row, which, ours, theirs, samples, check):
    """The row's record, or None where one of the sides cannot do it."""
    sides = {"ours": ours, "theirs": theirs}
    for side in sides.values():
        if not side.ask("prepare", row, which, side.dtype):
            return None
    seconds = {name: [] for name in sides}
    for _ in range(samples):
        for name, side in sides.items():
            seconds[name].append(side.ask("time"))
    record = dict(
        row=row.name, **{"pass": which}, flops=row.flops(which), scratch=ours.ask("scratch")
    )
    for name in sides:
        record[name] = dict(samples=seconds[name], median=statistics.median(seconds[name]))
    record["ratio"] = record["theirs"]["median"] / record["ours"]["median"]
    if check:
        results = {name: side.ask("results") for name, side in sides.items()}
        exact = ours.ask("exact", row, which)
        for name in sides:
            record[name]["error"] = max(
                float(abs(got - want).max() / abs(want).max())
                for got, want in zip(results[name], exact, strict=True)
            )
    return record


def chosen(patterns):
    """Rows of which one of the patterns fits the name or is the kind."""
    rows = {
        pattern: [
            row
            for row in ROWS.values()
            if fnmatch.fnmatch(row.name, pattern) or row.kind == pattern
        ]
        for pattern in patterns
    }
    for pattern, fitting in rows.items():
        if not fitting:
            sys.exit(f"no row is called {pattern!r}; there are: {', '.join(ROWS)}")
    return list(dict.fromkeys(row for fitting in rows.values() for row in fitting))


def print_head(ours, theirs, peaks):
    print(
        f"ours: {ours.peer}, {ours.threads} threads, {ours.dtype}; "
        f"theirs: {theirs.peer}, {theirs.threads} threads, {theirs.dtype}"
    )
    for side, top in zip((ours, theirs), peaks, strict=True):
        text = f"{top:.0f} GFLOP/s (multiply-adds on registers)" if top else "no C compiler"
        print(f"FMA peak, {side.threads} x {side.dtype}: {text}")
    print(
        f"\n{'row':21}{'pass':10}{'ours us':>10}{'their us':>10}{'ratio':>7}"
        f"{'GF/s':>7}{'theirs':>7}{'of peak':>9}{'theirs':>8}{'error':>9}{'theirs':>9}"
        f"{'scratch MB':>12}"
    )


def print_row(record, peaks):
    ours, theirs = record["ours"], record["theirs"]
    rates = [1e-9 * record["flops"] / side["median"] for side in (ours, theirs)]
    shares = [f"{rate / top:.0%}" if top else "-" for rate, top in zip(rates, peaks, strict=True)]
    errors = [f"{side['error']:.1e}" if "error" in side else "-" for side in (ours, theirs)]
    scratch = "-" if record["scratch"] is None else f"{1e-6 * record['scratch']:.2f}"
    print(
        f"{record['row']:21}{record['pass']:10}"
        f"{1e6 * ours['median']:10.1f}{1e6 * theirs['median']:10.1f}{record['ratio']:7.2f}"
        f"{rates[0]:7.1f}{rates[1]:7.1f}{shares[0]:>9}{shares[1]:>8}"
        f"{errors[0]:>9}{errors[1]:>9}{scratch:>12}",
        flush=True,
    )


def print_means(records):
    print()
    for which in dict.fromkeys(record["pass"] for record in records):
        ratios = [record["ratio"] for record in records if record["pass"] == which]
        least = min((r for r in records if r["pass"] == which), key=lambda r: r["ratio"])
        print(
            f"{which}: geometric mean {statistics.geometric_mean(ratios):.2f} over "
            f"{len(ratios)} rows, least {least['ratio']:.2f} ({least['row']})"
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument(
        "--rows", nargs="+", default=["*"], help="names, patterns or kinds, such as conv"
    )
    parser.add_argument("--passes", nargs="+", help="forward, prepared, backward, ...; else all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--peer-threads", type=int, help="as ours, unless given")
    parser.add_argument("--peer-dtype", choices=["float32", "float64"])
    parser.add_argument("--samples", type=int, default=7, help="of each side")
    parser.add_argument("--no-check", dest="check", action="store_false", help="no error columns")
    parser.add_argument("--json", help="write everything, every sample, to this file")
    options = parser.parse_args()

    rows = chosen(options.rows)
    ours = Side("fastconv", options.threads, options.dtype)
    theirs = Side(
        options.peer, options.peer_threads or options.threads, options.peer_dtype or options.dtype
    )
    tops = [peak.gflops(side.dtype) for side in (ours, theirs)]
    peaks = [top and top * side.threads for top, side in zip(tops, (ours, theirs), strict=True)]
    print_head(ours, theirs, peaks)

    records = []
    for row in rows:
        for which in row.passes:
            if options.passes and which not in options.passes:
                continue
            record = measure(row, which, ours, theirs, options.samples, options.check)
            if record:
                records.append(record)
                print_row(record, peaks)
    if records:
        print_means(records)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(dict(options=vars(options), peaks=peaks, records=records), file, indent=1)
    for side in ours, theirs:
        side.close()


if __name__ == "__main__":
    main()
