"""A progress bar for the examples that take more than a few seconds."""

import sys
import time


def progress(items, what, width=30):
    """Hand on what `items` holds, and redraw a bar: on a terminal ten times a second, elsewhere
    once at the end."""
    items = list(items)
    begin = drawn = time.perf_counter()
    for done, item in enumerate(items):
        now = time.perf_counter()
        if sys.stdout.isatty() and now - drawn > 0.1:
            drawn = now
            bar = ("#" * (width * done // len(items))).ljust(width, ".")
            print(f"\r{what} [{bar}] {now - begin:4.1f} s", end="", flush=True)
        yield item
    start = "\r" if sys.stdout.isatty() else ""
    print(f"{start}{what} [{'#' * width}] {time.perf_counter() - begin:4.1f} s", flush=True)
