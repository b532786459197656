# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, freethreading_compatible=True
"""From Python objects to pointers: checks, one call into src_c without the GIL, and back.

This file holds what all subjects share (the instruction set, the threads, operands); each
subject is a part of its own, included at the end. They belong to one module so that the thread
setting, the kernel table and the scratch memory exist once.

The functions in here take the common case alone: NumPy arrays laid out as the kernels read
them, plain ints. They return None for everything else, having touched nothing; the Python
module that called then says what is wrong, or makes the case common and calls again.
"""
cimport cython
cimport numpy as cnp
from cpython.long cimport PyLong_AsLongLongAndOverflow
from libc.stdint cimport int64_t

import os

cnp.import_array()


# --- instruction set ---------------------------------------------------------------------------

cdef extern from "dispatch.h" nogil:
    const char *fc_isa_name(int index)
    bint fc_isa_supported(int index)
    int fc_isa_select(const char *name)
    const char *fc_isa_active()


def isa_names():
    """The instruction sets that this CPU can run, best first."""
    cdef int index = 0
    names = []
    while fc_isa_name(index) != NULL:
        if fc_isa_supported(index):
            names.append(fc_isa_name(index).decode())
        index += 1
    return tuple(names)


def isa():
    """The instruction set in force."""
    return fc_isa_active().decode()


def select_isa(name):
    """Put one of `isa_names()` in force, for tests and measurements. Not while anything runs."""
    if not isinstance(name, str) or fc_isa_select(name.encode()) != 0:
        known = ", ".join(isa_names())
        raise ValueError(f"unknown or unsupported instruction set {name!r}: this CPU has {known}")


# --- threads -----------------------------------------------------------------------------------

cdef extern from "parallel.h" nogil:
    int fc_team_size(int threads)
    const char *fc_openmp_runtime()

cdef extern from * nogil:
    """
    static _Atomic int fc_threads_everywhere = 1;
    static _Thread_local int fc_threads_here;      /* 0: as everywhere */
    """
    int fc_threads_everywhere
    int fc_threads_here


cdef inline int thread_limit() noexcept nogil:
    """What the user asked for, to be handed to a driver: OpenMP may still allow fewer."""
    return fc_threads_here if fc_threads_here else fc_threads_everywhere


def get_num_threads():
    return fc_team_size(thread_limit())


def set_num_threads(int n):
    global fc_threads_everywhere
    fc_threads_everywhere = n


def swap_num_threads_here(int n):
    """Set the calling thread's own limit (0 for none); returns the one before."""
    global fc_threads_here
    before = fc_threads_here
    fc_threads_here = n
    return before


def openmp_runtime():
    """The OpenMP runtime's file or name, None in a build without."""
    return NULL_or_str(fc_openmp_runtime())


cdef NULL_or_str(const char *text):
    return None if text == NULL else text.decode(errors="replace")


# --- scratch memory ----------------------------------------------------------------------------

cdef extern from "arena.h" nogil:
    size_t fc_arena_clear()


def clear_scratch():
    """Give kept scratch memory back to the system; returns how many bytes that were."""
    return fc_arena_clear()


# --- operands ----------------------------------------------------------------------------------

cdef enum: FC_F32 = 0
cdef enum: FC_F64 = 1


cdef inline int kernel_dtype(object array) noexcept:
    """FC_F32 or FC_F64 where `array` is exactly what the kernels read: a NumPy array (no
    subclass), C-contiguous, aligned, native byte order. Otherwise -1."""
    cdef int number
    if type(array) is not cnp.ndarray:
        return -1
    if not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>array):
        return -1
    number = cnp.PyArray_TYPE(<cnp.ndarray>array)
    if number == cnp.NPY_FLOAT32:
        return FC_F32
    if number == cnp.NPY_FLOAT64:
        return FC_F64
    return -1


cdef inline bint overlap(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Do two C-contiguous arrays share memory?"""
    cdef char *a_begin = <char *>cnp.PyArray_DATA(a)
    cdef char *b_begin = <char *>cnp.PyArray_DATA(b)
    return a_begin < b_begin + cnp.PyArray_NBYTES(b) and b_begin < a_begin + cnp.PyArray_NBYTES(a)


# --- settings at import ------------------------------------------------------------------------

def _start():
    name = os.environ.get("FASTCONV_ISA")
    if name:
        try:
            select_isa(name)
        except ValueError as error:
            raise ValueError(f"FASTCONV_ISA: {error}") from None
    else:
        fc_isa_select(NULL)

    count = os.environ.get("FASTCONV_NUM_THREADS")
    if not count:
        set_num_threads(2**31 - 1)  # as many as OpenMP allows
    elif count.isdecimal() and 1 <= int(count) < 2**31:
        set_num_threads(int(count))
    else:
        raise ValueError(f"FASTCONV_NUM_THREADS: expected a positive integer, got {count!r}")


_start()


include "_core_conv.pxi"
include "_core_attention_rnn.pxi"
include "_core_gated_rnn.pxi"
