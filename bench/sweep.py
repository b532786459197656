"""How well does algorithm="auto" choose? Every algorithm timed on random geometries.

    python bench/sweep.py run times.jsonl --seed 1 --count 200 --seconds 50
    python bench/sweep.py report times.jsonl

`run` draws geometries, times what can compute each of their passes and appends to the file, one
line a pass. It stops after so many seconds, and called again goes on where it stopped. `report`
asks the library that is installed now what it would choose, and says what that costs: the time of
the chosen algorithm over that of the fastest.

A geometry is drawn again where fewer than two algorithms fit, or where one call would take long.
"""

import argparse
import dataclasses
import json
import math
import os
import statistics
import time

import numpy as np

import fastconv as fc
from fastconv import _core

ALGORITHMS = "direct", "winograd"
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


def calls(case, which, operands):
    """{algorithm: function} of those that can do it."""
    x, w, dy = operands
    conv = getattr(fc, f"conv{case.rank}d")
    backward = getattr(fc, f"conv{case.rank}d_backward")

    def function(algorithm):
        named = dict(algorithm=algorithm)
        if which == "forward":
            return lambda: conv(x, w, None, *case.settings, **named)
        if which == "prepared":
            prepared = fc.prepare_conv(w, None, *case.settings, input_shape=x.shape, **named)
            return lambda: prepared(x)
        mask = (which == "grad_input", which == "grad_weight", False)
        return lambda: backward(dy, x, w, *case.settings, output_mask=mask, **named)

    functions = {}
    for algorithm in ALGORITHMS:
        try:
            call = function(algorithm)
            call()
        except ValueError:  # it does not fit
            continue
        functions[algorithm] = call
    return functions


def timed(functions):
    """{algorithm: seconds}, the least of a few samples taken in turn."""
    numbers = {}
    for name, call in functions.items():
        start = time.perf_counter()
        call()
        numbers[name] = 1 + int(SAMPLE_SECONDS / (time.perf_counter() - start))
    seconds = dict.fromkeys(functions, math.inf)
    for _ in range(SAMPLES):
        for name, call in functions.items():
            call()  # warms the caches that the other one has used
            start = time.perf_counter()
            for _ in range(numbers[name]):
                call()
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
            shapes = case.input, case.weight, case.output
            operands = [pool[: math.prod(shape)].reshape(shape) for shape in shapes]
            functions = {which: calls(case, which, operands) for which in PASSES}
            if any(len(able) > 1 for able in functions.values()):
                break
        lines = [
            dict(
                number=number,
                seed=options.seed,
                dtype=options.dtype,
                isa=_core.isa(),
                **{"pass": which},
                case=dataclasses.asdict(case),
                seconds=timed(able),
            )
            for which, able in functions.items()
            if len(able) > 1
        ]
        with open(options.file, "a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        if time.perf_counter() > end:
            print(f"{number + 1} of {options.count} done; call again for the rest")
            return
    print(f"all {options.count} done")


def chosen(record):
    """What the library takes for it."""
    case = record["case"]
    which = dict(grad_input=1, grad_weight=2).get(record["pass"], 0)
    weight = np.empty(case.weight, record["dtype"])
    pairs = tuple((p, p) for p in case.padding)
    return _core.conv_algorithm(
        case.rank,
        case.input,
        weight,
        case.stride,
        pairs,
        case.dilation,
        case.groups,
        "auto",
        which,
        record["pass"] == "prepared",
    )


def loss(record, choice):
    return record["seconds"][choice] / min(record["seconds"].values()) - 1


def report(options):
    records = read(options.files)
    print(
        f"{'pass':12}{'cases':>6}{'mean loss':>11}{'worst':>8}{'> 5 %':>7}{'> 30 %':>8}"
        f"   mean if always {', '.join(ALGORITHMS)}"
    )
    for which in [*PASSES, "all"]:
        some = [record for record in records if which in ("all", record["pass"])]
        losses = [loss(record, chosen(record)) for record in some]
        always = [statistics.mean(loss(record, name) for record in some) for name in ALGORITHMS]
        print(
            f"{which:12}{len(some):6}{statistics.mean(losses):11.1%}{max(losses):8.0%}"
            f"{sum(x > 0.05 for x in losses):7}{sum(x > 0.3 for x in losses):8}   "
            + ", ".join(f"{x:.0%}" for x in always)
        )
    print("\nworst:")
    for record in sorted(records, key=lambda r: -loss(r, chosen(r)))[: options.worst]:
        seconds = ", ".join(f"{name} {1e6 * s:.1f} us" for name, s in record["seconds"].items())
        print(
            f"{loss(record, chosen(record)):5.0%} {record['pass']:11} {seconds}  {record['case']}"
        )


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
    command = commands.add_parser("report")
    command.add_argument("files", nargs="+")
    command.add_argument("--worst", type=int, default=20, help="cases to show")
    command.set_defaults(do=report)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
