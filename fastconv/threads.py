"""How many threads the kernels may use."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from . import _core
from .operands import positive_int


def get_num_threads() -> int:
    """Number of threads that a call made here and now may use.

    It is the smallest of what `num_threads` or `set_num_threads` or the environment variable
    ``FASTCONV_NUM_THREADS`` asked for, and what OpenMP allows, which `threadpoolctl` and
    ``OMP_NUM_THREADS`` limit. Small problems use fewer. Results never depend on it.

    Returns
    -------
    int
        1 in a build without OpenMP, and in a forked child of a process that has used several.
    """
    return _core.get_num_threads()


def set_num_threads(n: int) -> None:
    """Limit every later call, in every thread, to `n` threads.

    Parameters
    ----------
    n : int
        At least 1. More than OpenMP allows has no effect.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is less than 1 or does not fit 32 bits.

    Examples
    --------
    >>> import fastconv as fc
    >>> before = fc.get_num_threads()
    >>> fc.set_num_threads(1)
    >>> fc.get_num_threads()
    1
    >>> fc.set_num_threads(before)
    """
    _core.set_num_threads(positive_int("n", n))


def num_threads(n: int) -> AbstractContextManager[None]:
    """Limit the calls made by this thread within a ``with`` block to `n` threads.

    Other threads are not affected. Within the block this limit stands in place of the one given
    to `set_num_threads`; blocks may be nested, the innermost counts.

    Parameters
    ----------
    n : int
        At least 1. More than OpenMP allows has no effect.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is less than 1 or does not fit 32 bits.

    Examples
    --------
    >>> import fastconv as fc
    >>> with fc.num_threads(1):
    ...     fc.get_num_threads()
    1
    """
    return _limited(positive_int("n", n))


@contextmanager
def _limited(n: int) -> Iterator[None]:
    before = _core.swap_num_threads_here(n)
    try:
        yield
    finally:
        _core.swap_num_threads_here(before)


def show_config() -> None:
    """Print the version, the instruction set, the threads and the OpenMP runtime.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.show_config()  # doctest: +ELLIPSIS
    fastconv ...
    instruction set: ... (this CPU has ...)
    threads: ...
    OpenMP: ...
    """
    from . import __version__

    print(f"fastconv {__version__}")
    print(f"instruction set: {_core.isa()} (this CPU has {', '.join(_core.isa_names())})")
    print(f"threads: {_core.get_num_threads()}")
    print(f"OpenMP: {_core.openmp_runtime() or 'none, built without'}")
