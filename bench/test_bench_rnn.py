"""Every row of the recurrent networks, ours and the NumPy reference:
pytest bench/test_bench_rnn.py

As test_bench_conv.py; compare.py times other libraries, threads and dtypes.
"""

import pytest
from peers import Fastconv, Reference
from workloads import ATTENTION_RNN, GATED_RNN

LIBRARIES = {"fastconv": Fastconv(threads=1), "reference": Reference(threads=1)}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("which", ["forward", "bptt"])
@pytest.mark.parametrize("row", [*GATED_RNN, *ATTENTION_RNN], ids=lambda row: row.name)
def test_rnn(benchmark, row, which, library):
    call = getattr(LIBRARIES[library], row.kind)(row, which, *row.operands("float32"))
    benchmark.group = f"{row.name} {which}"
    benchmark(call)
    benchmark.extra_info["GFLOP/s"] = 1e-9 * row.flops(which) / benchmark.stats.stats.median
