# AttentionRNN: pointers of arrays that attention_rnn.py has laid out, and one call into
# src_c/attention_rnn.h.

import math

cdef extern from "arena.h" nogil:
    void *fc_arena_take_close(size_t bytes)
    void fc_arena_give(void *block)

cdef extern from "attention_rnn.h" nogil:
    ctypedef struct fc_attention_rnn:
        int dtype
        int shared
        int64_t steps, batch, n, window, given
        const int64_t *lengths
    ctypedef struct fc_attention_tape:
        void *states
        void *grown
        void *grown_x
        void *a
        void *mixed
        void *scores
        void *m
        void *z
    int fc_attention_rnn_forward(
        const fc_attention_rnn *net, const void *x, const void *w_q, const void *w_k,
        const void *w_v, const void *h0, void *h, const fc_attention_tape *tape, int threads)
    int fc_attention_rnn_backward(
        const fc_attention_rnn *net, void *grad, const void *x, const void *w_q, const void *w_k,
        const void *w_v, const fc_attention_tape *tape, void *dx, void *dw_q, void *dw_k,
        void *dw_v, int threads)


cdef class Block:
    """A block of the arena that lives as long as the arrays in it."""
    cdef char *data

    def __cinit__(self, size_t size):
        self.data = <char *>fc_arena_take_close(size)
        if self.data == NULL:
            raise MemoryError(f"no memory for {size} bytes")

    def __dealloc__(self):
        fc_arena_give(self.data)


def kept_arrays(dtype, shapes):
    """Uninitialised arrays in one block, which returns to the arena when the last of them dies.
    Fresh memory would cost more than what a short sequence takes to compute."""
    cdef cnp.npy_intp dims[32]
    cdef int number = dtype.num
    cdef size_t at = 0, itemsize = dtype.itemsize
    sizes = [math.prod(shape) for shape in shapes]
    cdef Block block = Block(sum([size * itemsize + 63 for size in sizes]) + 1)
    arrays = []
    for shape, size in zip(shapes, sizes):
        for axis, length in enumerate(shape):
            dims[axis] = length
        array = cnp.PyArray_SimpleNewFromData(len(shape), dims, number, block.data + at)
        cnp.set_array_base(array, block)
        arrays.append(array)
        at += (<size_t>size * itemsize + 63) & ~<size_t>63
    return arrays


cdef void *laid_out(object array, int dtype, int64_t count) except? NULL:
    """The address of an array that must hold `count` elements as the kernels read them."""
    if kernel_dtype(array) != dtype or cnp.PyArray_SIZE(<cnp.ndarray>array) != count:
        raise AssertionError("an operand of AttentionRNN is not laid out for the kernels")
    return cnp.PyArray_DATA(<cnp.ndarray>array)


cdef int attention_net(fc_attention_rnn *net, x, w_q, window, int64_t given, lengths) except -1:
    """Read the sizes; window None: infinite."""
    net.dtype = kernel_dtype(x)
    net.shared = w_q.ndim == 2
    net.steps, net.batch, net.n = x.shape
    net.window = -1 if window is None else window
    net.given = given
    net.lengths = NULL
    if lengths is not None:
        if lengths.dtype.num != cnp.NPY_INT64 or lengths.shape != (x.shape[1],):
            raise AssertionError("lengths of AttentionRNN are not laid out for the kernels")
        net.lengths = <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>lengths)
    return 0


cdef int attention_tape(fc_attention_tape *to, const fc_attention_rnn *net, tape) except -1:
    cdef int64_t T = net.steps, B = net.batch, n = net.n
    cdef int64_t k = net.window if net.window > 0 else 0
    cdef int64_t before = net.given if net.window < 0 else k
    cdef int64_t lags = 1 if net.shared else k
    cdef int dtype = net.dtype
    to.states = laid_out(tape.states, dtype, (before + T) * B * n)
    to.grown = laid_out(tape.grown, dtype, (net.given + T) * B * lags * n)
    to.grown_x = laid_out(tape.grown_x, dtype, T * B * n)
    to.a = laid_out(tape.a, dtype, T * B * (k + 1))
    to.mixed = laid_out(tape.mixed, dtype, T * B * n) if net.shared else NULL
    if net.window < 0:
        to.scores = laid_out(tape.scores, dtype, (net.given + T) * B)
        to.m = laid_out(tape.m, dtype, T * B)
        to.z = laid_out(tape.z, dtype, T * B)
    return 0


def attention_rnn_forward(x, w_q, w_k, w_v, h0, h, window, lengths, tape):
    """Write h (T, B, n); with a tape h and h0 are parts of tape.states, and the rest of it is
    written too."""
    cdef fc_attention_rnn net
    cdef fc_attention_tape kept
    cdef const fc_attention_tape *keep = NULL
    cdef int status
    attention_net(&net, x, w_q, window, 0 if h0 is None else h0.shape[0], lengths)
    cdef int64_t size = net.steps * net.batch * net.n, matrices = cnp.PyArray_SIZE(<cnp.ndarray>w_q)
    cdef void *x_data = laid_out(x, net.dtype, size)
    cdef void *q = laid_out(w_q, net.dtype, matrices)
    cdef void *k = laid_out(w_k, net.dtype, matrices)
    cdef void *v = laid_out(w_v, net.dtype, matrices)
    cdef void *start = NULL
    cdef void *y = laid_out(h, net.dtype, size)
    if h0 is not None:
        start = laid_out(h0, net.dtype, net.given * net.batch * net.n)
    if tape is not None:
        attention_tape(&kept, &net, tape)
        keep = &kept
    with nogil:
        status = fc_attention_rnn_forward(&net, x_data, q, k, v, start, y, keep, thread_limit())
    if status != 0:
        raise MemoryError("no memory for the scratch space of attention_rnn")


def attention_rnn_backward(grad, tape, dx, dw_q, dw_k, dw_v):
    """Turn the direct gradients of all states into the total ones, and write the others."""
    cdef fc_attention_rnn net
    cdef fc_attention_tape kept
    cdef int status
    attention_net(&net, tape.x, tape.w_q, tape.window, tape.given, tape.lengths)
    attention_tape(&kept, &net, tape)
    cdef int64_t size = net.steps * net.batch * net.n, matrices = cnp.PyArray_SIZE(<cnp.ndarray>tape.w_q)
    cdef int64_t before = net.given if net.window < 0 else net.window
    cdef void *g = laid_out(grad, net.dtype, size + before * net.batch * net.n)
    cdef void *x = laid_out(tape.x, net.dtype, size)
    cdef void *q = laid_out(tape.w_q, net.dtype, matrices)
    cdef void *k = laid_out(tape.w_k, net.dtype, matrices)
    cdef void *v = laid_out(tape.w_v, net.dtype, matrices)
    cdef void *dx_data = laid_out(dx, net.dtype, size)
    cdef void *dq = laid_out(dw_q, net.dtype, matrices)
    cdef void *dk = laid_out(dw_k, net.dtype, matrices)
    cdef void *dv = laid_out(dw_v, net.dtype, matrices)
    with nogil:
        status = fc_attention_rnn_backward(&net, g, x, q, k, v, &kept, dx_data, dq, dk, dv,
                                           thread_limit())
    if status != 0:
        raise MemoryError("no memory for the scratch space of attention_rnn_backward")
