"""How well does algorithm="auto" choose? Whatever can compute a pass, timed on random geometries.

    python bench/sweep.py run times.jsonl --seed 1 --count 600 --seconds 50
    python bench/sweep.py report times.jsonl

`run` draws geometries, times whatever can compute each of their passes and appends to the file, one
line a pass. Instruction sets and dtypes take turns. It stops after so many seconds, and called
again goes on where it stopped. `report` asks the library that is installed now which way it would
take, and says what that costs: the time of that way over that of the fastest.
bench/fit_prices.py makes prices of such files.

A geometry is drawn again where one call would take long, and where it is so small that the call
itself takes the time.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import math
import os
import statistics
import time

import numpy as np

import fastconv as fc
from fastconv import _core

PASSES = "forward", "prepared", "grad_input", "grad_weight"
ISAS, DTYPES = _core.isa_names(), ("float32", "float64")
LEAST_FLOPS, LARGEST_FLOPS, LARGEST_BYTES = 5e4, 3e8, 8e6
# Larger arrays than some 16 MB are new pages at each call, which is not what is compared here.
# What takes FAR times the fastest after two calls is not looked at again; a pass whose choice seems
# to lose more than SURPRISING is timed once more.
SAMPLES, SAMPLE_SECONDS, FAR, SURPRISING = 5, 0.6e-3, 3, 0.2


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
    """Any geometry: signals, images or volumes; dense, grouped and depthwise layers and first ones,
    which have few channels; patches; long kernels, and longer ones along lines; odd sizes among
    them."""

    def between(least, most):  # small ones as often as large ones
        return int(least * ((most + 1) / least) ** random.random())

    def on_axes(values):  # mostly the same on each axis
        one = random.random() < 0.7
        return tuple(
            map(int, [random.choice(values)] * rank if one else random.choice(values, rank))
        )

    rank = int(random.choice([1, 2, 2, 2, 3]))
    kinds = ["dense"] * 3 + ["grouped"] + ["depthwise"] * 2 + ["first", "long", "line", "patches"]
    kind = random.choice(kinds)
    groups, channels, filters = 1, between(4, 512), between(4, 512)
    if kind == "grouped":
        groups, channels, filters = between(2, 64), between(1, 16), between(1, 16)
    elif kind == "depthwise":
        groups, channels, filters = between(2, 512), 1, int(random.choice([1, 1, 1, 1, 2, 4]))
    elif kind == "first" or (kind == "patches" and random.random() < 0.4):
        channels, filters = between(1, 3), between(1, 128)
    if random.random() < 0.5:
        groups, channels, filters = (
            n if n < 8 else n // 8 * 8 for n in (groups, channels, filters)
        )
    kernel = on_axes([1, 2, 3, 3, 3, 4, 5, 5, 6, 7])
    if kind == "long":
        channels, filters = (
            n if random.random() < 0.5 else n // 16 + 1 for n in (channels, filters)
        )
        kernel = on_axes([6, 7, 7, 8, 9, 9, 10, 11, 13, 15, 17, 21])
        if rank > 1 and random.random() < 0.3:  # along one axis alone
            along = random.integers(rank)
            kernel = tuple(k if a == along else 1 for a, k in enumerate(kernel))
    elif kind == "line":
        rank, groups, channels, filters = 1, between(1, 64), 1, 1
        kernel = (between(8, 500),)
    stride = on_axes([1, 1, 1, 1, 1, 1, 2, 3])
    dilation = on_axes([1, 1, 1, 1, 1, 2, 3, 12])
    full = random.choice([0, 0.5, 0.5, 0.5, 1])
    padding = tuple(int(full * d * (k - 1)) for d, k in zip(dilation, kernel, strict=True))
    side = between(5, 120)
    sides = [max(5, int(side * random.uniform(0.7, 1.4))) for _ in range(rank)]
    if rank == 1:
        sides[0] *= int(random.choice([1, 20]))
    if kind == "patches":  # kernels as long as their stride, which leave no cell over
        kernel = stride = on_axes([1, 2, 2, 3, 4, 4, 5, 8, 14, 16])
        dilation, padding = (1,) * rank, (0,) * rank
        sides = [max(n, 5 * k) // k * k for n, k in zip(sides, kernel, strict=True)]
    return Case(
        (int(random.integers(1, 9)), groups * channels, *sides),
        (groups * filters, channels, *kernel),
        stride,
        padding,
        dilation,
        groups,
    )


def is_fair(case):
    spans = [d * (k - 1) + 1 for d, k in zip(case.dilation, case.weight[2:], strict=True)]
    lengths = [n + 2 * p for n, p in zip(case.input[2:], case.padding, strict=True)]
    if any(span > length for span, length in zip(spans, lengths, strict=True)):
        return False  # no output at all
    largest = max(map(math.prod, (case.input, case.weight, case.output)))
    return LEAST_FLOPS <= case.flops <= LARGEST_FLOPS and 4 * largest <= LARGEST_BYTES


def terms(case, which, dtype):
    """{way: operations that conv_count.c counts} of all ways that fit."""
    return _core.conv_terms(*_arguments(case, dtype), *_pass(which))


def chosen(case, which, dtype):
    way = _core.conv_way(*_arguments(case, dtype), "auto", *_pass(which))
    if which == "prepared" and way != "winograd":  # prepare_conv then names it
        way = _core.conv_way(*_arguments(case, dtype), "direct", *_pass(which))
    return way


def _arguments(case, dtype):
    pairs = tuple((p, p) for p in case.padding)
    weight = np.empty(case.weight, dtype)
    return case.rank, case.input, weight, case.stride, pairs, case.dilation, case.groups


def _pass(which):
    return dict(grad_input=1, grad_weight=2).get(which, 0), which == "prepared"


@contextlib.contextmanager
def forced(way):
    _core.force_way(way)
    try:
        yield
    finally:
        _core.force_way(None)


def call(case, which, operands):
    x, w, dy = operands
    conv = getattr(fc, f"conv{case.rank}d")
    backward = getattr(fc, f"conv{case.rank}d_backward")
    if which == "forward":
        return lambda: conv(x, w, None, *case.settings)
    if which == "prepared":
        prepared = fc.prepare_conv(w, None, *case.settings, input_shape=x.shape)
        return lambda: prepared(x)
    mask = (which == "grad_input", which == "grad_weight", False)
    return lambda: backward(dy, x, w, *case.settings, output_mask=mask)


def timed(case, which, operands):
    """{way: seconds}, the least of a few samples taken in turn."""
    calls, numbers, seconds = {}, {}, {}

    def sample(way):
        with forced(way):
            calls[way]()  # warms the caches that the others have used
            start = time.perf_counter()
            for _ in range(numbers[way]):
                calls[way]()
            return (time.perf_counter() - start) / numbers[way]

    for way in terms(case, which, operands[0].dtype):
        with forced(way):
            calls[way], numbers[way] = call(case, which, operands), 1
        seconds[way] = min(sample(way), sample(way))
        numbers[way] = 1 + int(SAMPLE_SECONDS / seconds[way])
    for _ in range(SAMPLES):
        near = FAR * min(seconds.values(), default=0)
        for way in calls:
            if seconds[way] <= near:
                seconds[way] = min(seconds[way], sample(way))
    return seconds


def loss(record):
    """What the way that would be taken costs beyond the fastest, as a share of that."""
    way = chosen(record["case"], record["pass"], record["dtype"])
    return record["seconds"][way] / min(record["seconds"].values()) - 1


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
    pool = np.random.default_rng(0).standard_normal(int(LARGEST_BYTES / 4))
    pools = {dtype: pool.astype(dtype) for dtype in DTYPES}
    end = time.perf_counter() + options.seconds
    for number in range(options.count):
        if number in done:
            continue
        random = np.random.default_rng([options.seed, number])
        while not is_fair(case := draw(random)):
            pass
        isa, dtype = ISAS[number % len(ISAS)], DTYPES[number // len(ISAS) % 2]
        _core.select_isa(isa)
        shapes = case.input, case.weight, case.output
        operands = [pools[dtype][: math.prod(shape)].reshape(shape) for shape in shapes]
        plain = [which for which in PASSES if which != "prepared"]
        times = {which: timed(case, which, operands) for which in plain}
        if "winograd" in times["forward"]:  # the others have nothing to prepare
            times["prepared"] = times["forward"] | timed(case, "prepared", operands)
        with open(options.file, "a") as file:
            for which, seconds in times.items():
                if seconds.keys() <= {"winograd"}:
                    continue  # all of it is padding: the direct algorithm has nothing to do
                record = dict(number=number, seed=options.seed, isa=isa, dtype=dtype)
                record |= {"pass": which, "case": case, "seconds": seconds}
                if loss(record) > SURPRISING:
                    again = timed(case, which, operands)
                    record["seconds"] = {way: min(s, again[way]) for way, s in seconds.items()}
                record["case"] = dataclasses.asdict(case)
                file.write(json.dumps(record) + "\n")
        if time.perf_counter() > end:
            print(f"{number + 1} of {options.count} done; call again for the rest")
            return
    print(f"all {options.count} done")


def report(options):
    records = read(options.files)
    for record in records:
        _core.select_isa(record["isa"])
        record["way"] = chosen(record["case"], record["pass"], record["dtype"])
        if record["way"] not in record["seconds"]:
            raise SystemExit(
                f"not timed, record it again with this version's `run`: {told(record)}"
            )
        record["loss"] = loss(record)
    print(f"{'':21}{'cases':>6}{'mean loss':>11}{'worst':>8}{'> 5 %':>7}{'> 30 %':>8}")
    for isa, which in itertools.product([*ISAS, "all"], [*PASSES, "all"]):
        losses = [
            record["loss"]
            for record in records
            if isa in ("all", record["isa"]) and which in ("all", record["pass"])
        ]
        if losses:
            print(
                f"{isa:9} {which:11}{len(losses):6}{statistics.mean(losses):11.1%}"
                f"{max(losses):8.0%}{sum(x > 0.05 for x in losses):7}"
                f"{sum(x > 0.3 for x in losses):8}"
            )
    print("\nworst:")
    for record in sorted(records, key=lambda record: -record["loss"])[: options.worst]:
        print(f"{record['loss']:5.0%} {told(record)}")


def told(record):
    seconds = ", ".join(f"{way} {1e6 * s:.1f}" for way, s in record["seconds"].items())
    return (
        f"{record['way']} for {record['pass']}, {record['isa']}, {record['dtype']}, "
        f"{record['case']} (number {record['number']} of seed {record['seed']}); us: {seconds}"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run")
    command.add_argument("file")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--count", type=int, default=600, help="of geometries")
    command.add_argument("--seconds", type=float, default=50)
    command.set_defaults(do=run)
    command = commands.add_parser("report")
    command.add_argument("files", nargs="+")
    command.add_argument("--worst", type=int, default=20, help="cases to show")
    command.set_defaults(do=report)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
