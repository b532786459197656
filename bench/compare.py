"""Time fastconv against other libraries, row by row, in one run.

    python bench/compare.py torch jax
    python bench/compare.py onnxruntime openvino ncnn mnn --json prepared.json
    python bench/compare.py jax --rows conv --passes backward --threads 2
    python bench/compare.py fastconv --dtype float64 --peer-dtype float32
    python bench/compare.py fastconv --threads 2 --peer-threads 1
    python bench/compare.py torch --algorithm direct
    python bench/compare.py torch --rows 1x37x29x31:37x37x3x3:1:1       # a layer of your own
    python bench/compare.py ../before       # a checkout in which fastconv is built in place

The other libraries are those of the extra `peers`: pip install -e '.[bench,peers]'.

Each side lives in a process of its own, on the first so many cores. Samples alternate, ours,
theirs, ours, theirs, so that whatever slows the machine slows all; each lasts at least 20 ms, and
before it the call runs once, unless that takes over 0.2 s, so that the caches are warm.
The table gives medians; ratio above 1 says that fastconv is faster. GFLOP/s counts the operations
of the plain sum of products; the peak is that of one core (peak.py) times the threads. The error
is the largest, over the largest result, against our direct algorithm in float64; a peer whose
error is above 1e-5 counts in no mean. Scratch is what a call of ours takes besides its operands.

Floors: the operations at the peak, and the time to read the operands and write the results once,
as fast as this core can where they lie (peak.py). "x floor" is our time over the larger one.
Winograd's algorithm needs fewer operations and may come below it.
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
from workloads import ROWS, own_row

LARGEST_ERROR = 1e-5  # of a peer that counts

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
        self.name = os.path.basename(peer).removesuffix(":auto")
        top = peak.gflops(dtype)
        self.peak = top and top * threads
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))  # the child inherits them
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, peer, threads), daemon=True)
        self.process.start()
        theirs.close()
        missing = self.receive("its start")
        if missing:
            sys.exit(f"{peer} needs the package {missing!r}: pip install -e '.[bench,peers]'")

    def ask(self, *request):
        try:
            self.connection.send(request)
        except OSError:
            self.stopped(request)
        return self.receive(request)

    def receive(self, request):
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.stopped(request)

    def stopped(self, request):
        sys.exit(f"{self.peer} stopped at {request}; its message is above")

    def close(self):
        self.connection.close()
        self.process.join()


def measure(row, which, ours, peers, samples, check):
    """The row's record, or None where we or all of them cannot do it."""
    able = [side for side in [ours, *peers] if side.ask("prepare", row, which, side.dtype)]
    if ours not in able or len(able) < 2:
        return None
    seconds = {side: [] for side in able}
    for _ in range(samples):
        for side in able:
            seconds[side].append(side.ask("time"))
    record = {
        "row": row.name,
        "pass": which,
        "flops": row.flops(which),
        "scratch": ours.ask("scratch"),
        "ours": None,
        "peers": {side.peer: None for side in peers},
    }
    exact = ours.ask("exact", row, which) if check else None
    for side in able:
        measured = dict(samples=seconds[side], median=statistics.median(seconds[side]))
        if check:
            measured["error"] = max(
                float(abs(got.reshape(want.shape) - want).max() / abs(want).max())
                for got, want in zip(side.ask("results"), exact, strict=True)
            )
        if side is ours:
            record["ours"] = measured
            record["floors"] = floors(row, which, ours)
        else:
            measured["ratio"] = measured["median"] / record["ours"]["median"]
            record["peers"][side.peer] = measured
    return record


def floors(row, which, side):
    """Seconds by operations and by bytes, or None where the peaks are not known."""
    if not side.peak:
        return None
    read, written = row.traffic(which, 8 if side.dtype == "float64" else 4)
    return dict(
        operations=1e-9 * row.flops(which) / side.peak,
        bytes=peak.stream_seconds(read, written) / side.threads,
    )


def counts(measured):
    return measured is not None and measured.get("error", 0) <= LARGEST_ERROR


def best_ratio(record):
    """Over the fastest peer whose results are exact enough; None where there is none."""
    return min((p["ratio"] for p in record["peers"].values() if counts(p)), default=None)


def chosen(patterns):
    """Rows of which one of the patterns fits the name or is the kind, or that it writes out."""
    rows = {
        pattern: [own_row(pattern)]
        if ":" in pattern
        else [
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


def print_head(ours, peers):
    for side in ours, *peers:
        top = f"{side.peak:.0f} GFLOP/s (on registers)" if side.peak else "no C compiler"
        print(f"{side.name}: {side.threads} threads, {side.dtype}, FMA peak {top}")
    print(
        f"\n{'row':20} {'pass':10}{'':13}{'us':>10}{'ratio':>7}{'GF/s':>7}{'of peak':>9}"
        f"{'error':>9}{'FMA us':>10}{'bytes us':>10}{'x floor':>9}{'scratch MB':>12}"
    )


def print_row(record, ours, peers):
    print(line(record, ours, record["ours"]) + bounds(record))
    for side in peers:
        measured = record["peers"][side.peer]
        if measured is None:
            print(f"{record['row']:20} {record['pass']:10}{side.name:13}{'absent':>10}")
        else:
            print(line(record, side, measured) + ("" if counts(measured) else "  not counted"))
    sys.stdout.flush()


def line(record, side, measured):
    rate = 1e-9 * record["flops"] / measured["median"]
    ratio = f"{measured['ratio']:.2f}" if "ratio" in measured else ""
    share = f"{rate / side.peak:.0%}" if side.peak else "-"
    error = f"{measured['error']:.1e}" if "error" in measured else "-"
    return (
        f"{record['row']:20} {record['pass']:10}{side.name:13}"
        f"{1e6 * measured['median']:10.1f}{ratio:>7}{rate:7.1f}{share:>9}{error:>9}"
    )


def bounds(record):
    text = f"{'-':>10}{'-':>10}{'-':>9}"
    if record["floors"]:
        operations, moved = record["floors"]["operations"], record["floors"]["bytes"]
        times = record["ours"]["median"] / max(operations, moved)
        text = f"{1e6 * operations:10.1f}{1e6 * moved:10.1f}{times:9.2f}"
    scratch = "-" if record["scratch"] is None else f"{1e-6 * record['scratch']:.2f}"
    return f"{text}{scratch:>12}"


def print_means(records, peers):
    print()
    for which in dict.fromkeys(record["pass"] for record in records):
        chosen = [record for record in records if record["pass"] == which]
        for side in peers:
            ratios = {
                record["row"]: record["peers"][side.peer]["ratio"]
                for record in chosen
                if counts(record["peers"][side.peer])
            }
            print_mean(which, side.name, ratios)
        if len(peers) > 1:
            best = {record["row"]: best_ratio(record) for record in chosen}
            print_mean(which, "the best", {row: ratio for row, ratio in best.items() if ratio})


def print_mean(which, name, ratios):
    if ratios:
        least = min(ratios, key=ratios.get)
        print(
            f"{which} against {name}: geometric mean "
            f"{statistics.geometric_mean(ratios.values()):.2f} over {len(ratios)} rows, "
            f"least {ratios[least]:.2f} ({least})"
        )


def known_peer(name):
    if name in PEERS:
        return name
    if os.path.isdir(os.path.join(name, "fastconv")):
        return os.path.abspath(name)
    raise argparse.ArgumentTypeError(f"{name!r} is neither a known peer nor a checkout of ours")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "peers", nargs="+", type=known_peer, help=f"{', '.join(PEERS)}, or a checkout of ours"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=["*"],
        help="names, patterns, kinds such as conv, or input:weight:stride:padding:dilation:groups",
    )
    parser.add_argument("--passes", nargs="+", help="forward, prepared, backward, ...; else all")
    parser.add_argument("--algorithm", choices=["auto", "direct", "winograd"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--peer-threads", type=int, help="as ours, unless given")
    parser.add_argument("--peer-dtype", choices=["float32", "float64"])
    parser.add_argument("--samples", type=int, default=7, help="of each side")
    parser.add_argument("--no-check", dest="check", action="store_false", help="no error column")
    parser.add_argument("--json", help="write everything, every sample, to this file")
    options = parser.parse_args()

    rows = chosen(options.rows)
    ours = Side(f"fastconv:{options.algorithm}", options.threads, options.dtype)
    theirs = options.peer_threads or options.threads, options.peer_dtype or options.dtype
    peers = [Side(peer, *theirs) for peer in options.peers]
    print_head(ours, peers)

    records = []
    for row in rows:
        for which in row.passes:
            if options.passes and which not in options.passes:
                continue
            record = measure(row, which, ours, peers, options.samples, options.check)
            if record:
                records.append(record)
                print_row(record, ours, peers)
    if records:
        print_means(records, peers)
    if options.json:
        result = dict(options=vars(options), peak=ours.peak, records=records)
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)
    for side in ours, *peers:
        side.close()


if __name__ == "__main__":
    main()
