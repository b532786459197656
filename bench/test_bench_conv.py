"""Every convolution row, ours and the NumPy reference: pytest bench/test_bench_conv.py

The pytest-benchmark options choose and save, such as `-k resnet.l1` and `--benchmark-save=NAME`.
One thread, float32; compare.py times other libraries, threads and dtypes.
"""

import pytest
from peers import Fastconv, Reference
from workloads import CONV

LIBRARIES = {"fastconv": Fastconv(threads=1), "reference": Reference(threads=1)}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("which", ["forward", "backward"])
@pytest.mark.parametrize("row", CONV, ids=lambda row: row.name)
def test_conv(benchmark, row, which, library):
    call = LIBRARIES[library].conv(row, which, *row.operands("float32"))
    if call is None:
        pytest.skip("its columns would take several GB")
    benchmark.group = f"{row.name} {which}"
    benchmark(call)
    benchmark.extra_info["GFLOP/s"] = 1e-9 * row.flops(which) / benchmark.stats.stats.median
