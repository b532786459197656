"""The prices of src_c/conv_prices.h, fitted to what bench/sweep.py has timed.

    python bench/fit_prices.py times.jsonl more.jsonl

For each way, constants that are not negative, by least squares of the relative error. How slow the
machine was while a record was taken, clock and neighbours, all its ways have in common: that is
fitted too, and left out, as only which of two ways takes longer matters. What patches and columns
cost holds what their kernel of 1 does, by the prices in force: build, and fit once more.
"""

import argparse
import itertools
import math
import pathlib
import re

import numpy as np
from scipy.optimize import nnls
from sweep import ISAS, read, terms

from fastconv import _core

PRICES = pathlib.Path(__file__).parents[1] / "src_c" / "conv_prices.h"
# The last of a way's operations, as src_c/conv_count_parts.h names them.
SHARED = (
    "EVERY_OTHER", "MEMORY", "FAR", "ASKED", "CROWDED", "CROWDED_L2", "KEPT", "KEPT_LINES", "IDLE",
    "FILLED", "LAST",
)  # fmt: skip
ROUNDS, STEPS = 4, 30


def fit(files):
    records = read(files)
    prices = {}
    for isa in reversed(ISAS):  # narrow vectors first
        _core.select_isa(isa)
        samples = sampled([record for record in records if record["isa"] == isa])
        slow, constants = np.zeros(len(records)), {}
        for _ in range(ROUNDS):
            total, weight = np.zeros(len(records)), np.ones(len(records))
            for way, (operations, nanoseconds, weights, record) in samples.items():
                usual = nanoseconds / np.exp(slow[record])
                constants[way] = fitted(operations / usual[:, None], weights)
                off = np.log(nanoseconds / np.maximum(operations @ constants[way][0], 1))
                np.add.at(total, record, weights**2 * np.clip(off, -0.7, 0.7))
                np.add.at(weight, record, weights**2)
            slow = total / weight
        for way, (numbers, error) in constants.items():
            prices.setdefault(way, []).append(numbers)
            print(f"{isa:9} {way:24} {len(samples[way][0]):5} times, error {error:.0%}")
    PRICES.write_text(repriced(PRICES.read_text(), prices))


def sampled(records):
    """{way: [operations, nanoseconds, weights, numbers of the records]}, one instruction set's."""
    samples = {way: [] for way in _core.WAYS}
    for number, record in enumerate(records):
        counted = terms(record["case"], record["pass"], record["dtype"])
        least = min(record["seconds"].values())
        for way, seconds in record["seconds"].items():
            if way not in counted or (record["pass"] == "prepared" and way != "winograd"):
                continue  # times of another version; the same as in the forward pass
            # What is far from the fastest need not be known well.
            weight = 1 / (1 + 4 * math.log(seconds / least))
            samples[way].append((counted[way], 1e9 * seconds, weight, number))
    return {
        way: [np.array(n) for n in zip(*some, strict=True)] for way, some in samples.items() if some
    }


def fitted(rows, weights):
    """c >= 0 with the least sum of squares of log(rows @ c), outliers counting less, by Newton's
    steps from the c for which rows @ c is about 1; the root of the mean square."""
    scale = np.sqrt((rows**2).mean(0)) + 1e-300
    rows = rows / scale

    def not_negative(rows, target, weights):
        root = np.sqrt(weights)
        return nnls(rows * root[:, None], target * root, maxiter=1000)[0]

    constants = not_negative(rows, np.ones(len(rows)), weights)
    for _ in range(STEPS):
        sums = np.maximum(rows @ constants, 1e-3)
        error = np.log(sums)
        robust = weights / np.maximum(0.2, abs(error))
        step = not_negative(rows / sums[:, None], 1 - error, robust)
        constants = (constants + step) / 2
    return constants / scale, np.sqrt((error**2).mean())


def repriced(text, prices):
    """The table of conv_prices.h with other numbers; {way: [of an instruction set, ...]}.
    Ways that were not timed keep theirs."""
    ways, lines = iter(_core.WAYS), []
    for line in text.splitlines(keepends=True):
        if line.startswith("    [FC_"):
            of_way, own = list(zip(*prices.get(next(ways), []), strict=True)), itertools.count()
        found = re.match(r"        (\[(\w+)\] = )?\{.*?\}, *", line)
        if found and of_way and "not fitted" not in line:
            start, name = found[1] or "", found[2]
            row = of_way[SHARED.index(name) - len(SHARED) if name else next(own)]
            numbers = ", ".join(f"{price:.3g}" for price in row)
            new = f"        {start}{{{numbers}}}, "
            line = new.ljust(49 if name else 35) + line[found.end() :]
        elif found:
            next(own)
        lines.append(line)
    return "".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+")
    fit(parser.parse_args().files)


if __name__ == "__main__":
    main()
