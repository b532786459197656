"""The most this core can do: multiply-adds on registers alone, and bytes read and written.

The loops are compiled for this very machine by the C compiler that $CC names (else cc), and timed.
"""

import ctypes
import functools
import os
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

LINE = 64  # bytes, of a cache

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

/* Read so many bytes and write so many, in turn, some of each; and again, so many times. */
void stream(const vector *from, long read, vector *to, long written, long times)
{
    const long reads = read / BYTES, writes = written / BYTES, parts = 1 + (reads + writes) / 256;
    vector sum[4] = {0};
    while (times--) {
        long i = 0, o = 0;
        for (long part = 1; part <= parts; part++) {
            const long read_end = reads * part / parts, written_end = writes * part / parts;
            for (; i + 4 <= read_end; i += 4)
                for (int j = 0; j < 4; j++)
                    sum[j] += from[i + j];
            for (; i < read_end; i++)
                sum[0] += from[i];
            for (; o < written_end; o++)
                to[o] = sum[0];
        }
        to[writes] = sum[0] + sum[1] + sum[2] + sum[3];   /* so that all of it is wanted */
    }
}
"""


@functools.cache
def gflops(dtype):
    """GFLOP/s of one core in "float32" or "float64"; None without a C compiler."""
    library = _compiled({"float32": "float", "float64": "double"}[dtype])
    if library is None:
        return None
    real = {"float32": ctypes.c_float, "float64": ctypes.c_double}[dtype]
    sink = (real * 13)(*(1 / (i + 2) for i in range(13)))
    best = 0.0
    for _ in range(20):
        start = time.perf_counter()
        count = library.multiply_adds(1_000_000, sink)
        best = max(best, 2e-9 * count / (time.perf_counter() - start))
    return best


@functools.cache
def stream_seconds(read, written):
    """Least seconds to read so many bytes and write so many, each always in the same place; None
    without a C compiler."""
    library = _compiled("float")
    if library is None:
        return None
    read, written = (-(-size // LINE) * LINE for size in (read, written))
    memory = ctypes.create_string_buffer(read + written + 2 * LINE)
    start = -(-ctypes.addressof(memory) // LINE) * LINE
    times = 1 + int(1e6 / (read + written))  # enough to be timed
    samples = []
    for _ in range(20):
        before = time.perf_counter()
        library.stream(start, read, start + read, written, times)
        samples.append((time.perf_counter() - before) / times)
    return min(samples)


@functools.cache
def _compiled(real):
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder, "peak.c"), Path(folder, "peak.so")
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
                str(path),
                str(source),
            ]
            try:
                subprocess.run(command, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                continue
            library = ctypes.CDLL(str(path))
            library.multiply_adds.restype = ctypes.c_long
            library.multiply_adds.argtypes = ctypes.c_long, ctypes.c_void_p
            library.stream.restype = None
            library.stream.argtypes = [*2 * (ctypes.c_void_p, ctypes.c_long), ctypes.c_long]
            return library
    return None


if __name__ == "__main__":
    for dtype in "float32", "float64":
        print(f"{dtype} {gflops(dtype):.1f} GFLOP/s")
    for size in 16_000, 256_000, 4_000_000, 64_000_000:
        for name, read in ("read", size), ("half and half", size // 2), ("written", 0):
            rate = 1e-9 * size / stream_seconds(read, size - read)
            print(f"{size:,} bytes, {name}: {rate:.0f} GB/s")
