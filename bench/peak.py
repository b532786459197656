"""The most multiply-adds this core can do: independent ones, on registers alone.

The loop is compiled for this very machine by the C compiler that $CC names (else cc), and timed.
"""

import ctypes
import functools
import os
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

SOURCE = """
#if defined __AVX512F__
enum { BYTES = 64 };
#elif defined __AVX__
enum { BYTES = 32 };
#else
enum { BYTES = 16 };
#endif
enum { CHAINS = 12 };  /* two units times a latency of four or five need eight to ten */
typedef REAL vector __attribute__((vector_size(BYTES)));

long multiply_adds(long rounds, REAL *sink)
{
    vector zero = {0}, a = zero + sink[0], b = zero + sink[1], sum[CHAINS];
    for (int j = 0; j < CHAINS; j++)
        sum[j] = zero + sink[j];  /* each another: equal chains would be computed once */
    for (long i = 0; i < rounds; i++)
        for (int j = 0; j < CHAINS; j++)
            sum[j] = sum[j] * a + b;
    for (int j = 0; j < CHAINS; j++)
        sink[CHAINS] += sum[j][0];
    return rounds * CHAINS * (long)(BYTES / sizeof(REAL));
}
"""


@functools.cache
def gflops(dtype):
    """GFLOP/s of one core in "float32" or "float64"; None without a C compiler."""
    function = _compiled({"float32": "float", "float64": "double"}[dtype])
    if function is None:
        return None
    real = {"float32": ctypes.c_float, "float64": ctypes.c_double}[dtype]
    sink = (real * 13)(*(1 / (i + 2) for i in range(13)))
    best = 0.0
    for _ in range(20):
        start = time.perf_counter()
        count = function(1_000_000, sink)
        best = max(best, 2e-9 * count / (time.perf_counter() - start))
    return best


def _compiled(real):
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "peak.c"), Path(folder, "peak.so")
        source.write_text(SOURCE)
        for native in "-march=native", "-mcpu=native":
            command = [
                *shlex.split(os.environ.get("CC", "cc")),
                "-O3",
                "-ffp-contract=fast",
                "-funroll-loops",
                native,
                f"-DREAL={real}",
                "-shared",
                "-fPIC",
                "-o",
                str(library),
                str(source),
            ]
            try:
                subprocess.run(command, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                continue
            function = ctypes.CDLL(str(library)).multiply_adds
            function.restype, function.argtypes = ctypes.c_long, [ctypes.c_long, ctypes.c_void_p]
            return function
    return None


if __name__ == "__main__":
    for dtype in "float32", "float64":
        print(dtype, gflops(dtype))
