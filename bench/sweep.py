"""How well does algorithm="auto" choose? Whatever can compute a pass, timed on random geometries.

    python bench/sweep.py run times.jsonl --seed 1 --count 200 --seconds 50
    python bench/sweep.py report times.jsonl
    python bench/sweep.py fit times.jsonl

`run` draws geometries, times what can compute each of their passes and appends to the file, one
line a pass. It stops after so many seconds, and called again goes on where it stopped. `report`
asks the library that is installed now what it would choose, and says what that costs: the time of
what is chosen over that of the fastest. `fit` prints constants for src_c/conv_cost.c, for the
instruction set and dtype of the times it is given.

The candidates are "winograd" and the ways of "direct": "panels", "planes" and "apart", and for the
gradient of the weights "channels" and "dots". A geometry is drawn again where Winograd's
algorithm fits no pass of it, or where one call would take long.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import statistics
import time

import numpy as np

import fastconv as fc
from fastconv import _core

DIRECT, DIRECT_GRAD_WEIGHT = ("panels", "planes", "apart"), ("channels", "dots")
WAYS = *DIRECT, *DIRECT_GRAD_WEIGHT, "winograd", "winograd_grad_weight"  # as in conv_cost.h
PASSES = "forward", "prepared", "grad_input", "grad_weight"
LARGEST_FLOPS, LARGEST_BYTES = 6e8, 64e6
SAMPLES, SAMPLE_SECONDS = 5, 1e-3


@dataclasses.dataclass(frozen=True)
class Case:
    input: tuple[int, ...]  # (N, C, *spatial)
    weight: tuple[int, ...]  # (F, C / groups, *kernel)
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def rank(self):
        return len(self.stride)

    @property
    def settings(self):
        return self.stride, self.padding, self.dilation, self.groups

    @property
    def output(self):
        return fc.conv_output_shape(self.input, self.weight, *self.settings[:3])

    @property
    def flops(self):
        return 2 * math.prod(self.output) * math.prod(self.weight[1:])


def draw(random):
    """Any geometry: signals, images or volumes, odd sizes among them."""

    def between(least, most):  # small ones as often as large ones
        return int(least * (most / least) ** random.random())

    def on_axes(values):  # mostly the same on each axis
        return tuple(
            map(
                int,
                random.choice(values, rank)
                if random.random() < 0.3
                else [random.choice(values)] * rank,
            )
        )

    rank = int(random.choice([1, 2, 2, 3]))
    groups = int(random.choice([1, 1, 1, 2, between(1, 64)]))
    channels, filters = (max(1, between(1, 512) // groups) for _ in range(2))
    if random.random() < 0.5:
        channels, filters = (n if n < 8 else n // 8 * 8 for n in (channels, filters))
    kernel = on_axes([1, 2, 3, 3, 3, 4, 5, 5, 6, 7])
    stride = on_axes([1, 1, 1, 1, 1, 1, 2, 3])
    dilation = on_axes([1, 1, 1, 1, 1, 2, 3, 4])
    full = random.choice([0, 0.5, 0.5, 1])
    padding = tuple(int(full * d * (k - 1)) for d, k in zip(dilation, kernel, strict=True))
    side = between(5, 120)
    sides = [max(5, int(side * random.uniform(0.7, 1.4))) for _ in range(rank)]
    if rank == 1:
        sides[0] *= int(random.choice([1, 20]))
    return Case(
        (int(random.integers(1, 9)), groups * channels, *sides),
        (groups * filters, channels, *kernel),
        stride,
        padding,
        dilation,
        groups,
    )


def is_cheap(case):
    spans = [d * (k - 1) + 1 for d, k in zip(case.dilation, case.weight[2:], strict=True)]
    lengths = [n + 2 * p for n, p in zip(case.input[2:], case.padding, strict=True)]
    if any(span > length for span, length in zip(spans, lengths, strict=True)):
        return False  # no output at all
    largest = max(map(math.prod, (case.input, case.weight, case.output)))
    return case.flops <= LARGEST_FLOPS and 4 * largest <= LARGEST_BYTES


@contextlib.contextmanager
def way(candidate):
    """The name of the algorithm, while the direct one takes that way wherever it can."""
    forced = candidate in DIRECT or candidate in DIRECT_GRAD_WEIGHT
    _core.force_way(candidate if forced else None)
    try:
        yield "direct" if forced else candidate
    finally:
        _core.force_way(None)


def terms(case, which, candidate, dtype):
    """{way: operations that conv_cost.c counts} of what would be done; empty if it does not fit."""
    with way(candidate) as algorithm:
        counted = _core.conv_terms(*_arguments(case, dtype), algorithm, *_pass(which)) or []
    return {name: row for name, row in zip(WAYS, counted, strict=False) if any(row)}


def _arguments(case, dtype):
    pairs = tuple((p, p) for p in case.padding)
    weight = np.empty(case.weight, dtype)
    return case.rank, case.input, weight, case.stride, pairs, case.dilation, case.groups


def _pass(which):
    return dict(grad_input=1, grad_weight=2).get(which, 0), which == "prepared"


def candidates(case, which, dtype):
    ways = DIRECT_GRAD_WEIGHT if which == "grad_weight" else DIRECT
    if not terms(case, which, "winograd", dtype):
        return []
    return [name for name in ways if name in terms(case, which, name, dtype)] + ["winograd"]


def call(case, which, operands, algorithm):
    x, w, dy = operands
    conv = getattr(fc, f"conv{case.rank}d")
    backward = getattr(fc, f"conv{case.rank}d_backward")
    named = dict(algorithm=algorithm)
    if which == "forward":
        return lambda: conv(x, w, None, *case.settings, **named)
    if which == "prepared":
        prepared = fc.prepare_conv(w, None, *case.settings, input_shape=x.shape, **named)
        return lambda: prepared(x)
    mask = (which == "grad_input", which == "grad_weight", False)
    return lambda: backward(dy, x, w, *case.settings, output_mask=mask, **named)


def timed(case, which, operands):
    """{candidate: seconds}, the least of a few samples taken in turn."""
    calls, numbers, seconds = {}, {}, {}
    for name in candidates(case, which, operands[0].dtype):
        with way(name) as algorithm:
            calls[name] = call(case, which, operands, algorithm)
            calls[name]()
            start = time.perf_counter()
            calls[name]()
            numbers[name] = 1 + int(SAMPLE_SECONDS / (time.perf_counter() - start))
            seconds[name] = math.inf
    for _ in range(SAMPLES):
        for name, run in calls.items():
            with way(name):
                run()  # warms the caches that the other one has used
                start = time.perf_counter()
                for _ in range(numbers[name]):
                    run()
                spent = (time.perf_counter() - start) / numbers[name]
                seconds[name] = min(seconds[name], spent)
    return seconds


def read(paths):
    records = []
    for path in paths:
        if os.path.exists(path):
            with open(path) as file:
                records += [json.loads(line) for line in file]
    for record in records:
        fields = {
            name: tuple(n) if isinstance(n, list) else n for name, n in record["case"].items()
        }
        record["case"] = Case(**fields)
    return records


def run(options):
    """Cases are numbered; each has a random generator of its own, so that any can be skipped."""
    fc.set_num_threads(1)
    done = {record["number"] for record in read([options.file])}
    pool = np.random.default_rng(0).standard_normal(int(LARGEST_BYTES / 4)).astype(options.dtype)
    end = time.perf_counter() + options.seconds
    for number in range(options.count):
        if number in done:
            continue
        random = np.random.default_rng([options.seed, number])
        while True:
            case = draw(random)
            if not is_cheap(case):
                continue
            able = [which for which in PASSES if candidates(case, which, options.dtype)]
            if able:
                break
        shapes = case.input, case.weight, case.output
        operands = [pool[: math.prod(shape)].reshape(shape) for shape in shapes]
        lines = [
            dict(
                number=number,
                seed=options.seed,
                dtype=options.dtype,
                isa=_core.isa(),
                **{"pass": which},
                case=dataclasses.asdict(case),
                seconds=timed(case, which, operands),
            )
            for which in able
        ]
        with open(options.file, "a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        if time.perf_counter() > end:
            print(f"{number + 1} of {options.count} done; call again for the rest")
            return
    print(f"all {options.count} done")


def chosen(record):
    """What the library takes for it."""
    case, which, dtype = record["case"], record["pass"], record["dtype"]
    name = _core.conv_algorithm(*_arguments(case, dtype), "auto", *_pass(which))
    if name == "direct":  # phases of a stride may go different ways: that of the most products
        ways = terms(case, which, "direct", dtype)
        name = max(ways, key=lambda way: ways[way][0])
    return name


def loss(record, choice):
    return record["seconds"][choice] / min(record["seconds"].values()) - 1


def report(options):
    records = read(options.files)
    print(f"{'pass':12}{'cases':>6}{'mean loss':>11}{'worst':>8}{'> 5 %':>7}{'> 30 %':>8}")
    for which in [*PASSES, "all"]:
        some = [record for record in records if which in ("all", record["pass"])]
        losses = [loss(record, chosen(record)) for record in some]
        print(
            f"{which:12}{len(some):6}{statistics.mean(losses):11.1%}{max(losses):8.0%}"
            f"{sum(x > 0.05 for x in losses):7}{sum(x > 0.3 for x in losses):8}"
        )
    print("\nworst:")
    for record in sorted(records, key=lambda r: -loss(r, chosen(r)))[: options.worst]:
        seconds = ", ".join(f"{name} {1e6 * s:.1f} us" for name, s in record["seconds"].items())
        print(
            f"{loss(record, chosen(record)):5.0%} {record['pass']:11} {seconds}  {record['case']}"
        )


def fit(options):
    """For each way, constants that are not negative, by least squares of the relative error."""
    samples = {name: [] for name in WAYS}
    for record in read(options.files):
        middle = statistics.median(record["seconds"].values())
        for candidate, seconds in record["seconds"].items():
            ways = terms(record["case"], record["pass"], candidate, record["dtype"])
            if len(ways) == 1:
                ((name, row),) = ways.items()
                # What is far from the others need not be known well.
                weight = 1 / (1 + abs(math.log(seconds / middle)))
                samples[name].append((row, 1e9 * seconds, weight))
    for name, some in samples.items():
        rows, nanoseconds, weights = map(np.array, zip(*some, strict=True))
        constants, error = fitted(rows / nanoseconds[:, None], weights)
        numbers = ", ".join(f"{c:.3g}" for c in constants)
        print(f"    {{{numbers}}},   /* {name}: {len(some)} times, error {error:.0%} */")


def fitted(rows, weights):
    """c >= 0 for which rows @ c is about 1, far ones counting less; the root of the mean square."""
    scale = np.sqrt((rows**2).mean(0)) + 1e-300
    rows = rows / scale
    constants = np.zeros(rows.shape[1])
    robust = weights
    for _ in range(20):
        matrix = (rows * robust[:, None]).T @ rows
        target = (rows * robust[:, None]).sum(0)
        for _ in range(2000):
            for j in range(len(constants)):
                step = (target[j] - matrix[j] @ constants) / (matrix[j, j] + 1e-12)
                constants[j] = max(0, constants[j] + step)
        error = np.log(np.maximum(rows @ constants, 1e-9))
        robust = weights / np.maximum(0.1, abs(error))
    return constants / scale, np.sqrt((error**2).mean())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run")
    command.add_argument("file")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--count", type=int, default=200, help="of geometries")
    command.add_argument("--seconds", type=float, default=50)
    command.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    command.set_defaults(do=run)
    command = commands.add_parser("fit")
    command.add_argument("files", nargs="+")
    command.set_defaults(do=fit)
    command = commands.add_parser("report")
    command.add_argument("files", nargs="+")
    command.add_argument("--worst", type=int, default=20, help="cases to show")
    command.set_defaults(do=report)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
