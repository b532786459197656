# AttentionRNN: pointers of arrays that attention_rnn.py has laid out, or, in the common case, that
# the caller has; and one call into src_c/attention_rnn.h.

from libc.string cimport memcpy, memset
from numpy import empty

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


cdef int64_t numbers_in(tuple shape) except -1:
    cdef double about = 1
    cdef int64_t count = 1
    for length in shape:
        about *= length
        count *= <int64_t>length
    if about >= 1 << 58:
        raise MemoryError(f"no memory for an array of shape {shape}")
    return count


def kept_arrays(dtype, shapes):
    """Uninitialised arrays in one block, which returns to the arena when the last of them dies.
    Fresh memory would cost more than what a short sequence takes to compute."""
    cdef cnp.npy_intp dims[32]
    cdef int number = dtype.num
    cdef size_t at = 0, itemsize = dtype.itemsize
    for shape in shapes:
        at += (itemsize * numbers_in(shape) + 63) & ~<size_t>63
    cdef Block block = Block(at + 1)
    arrays = []
    at = 0
    for shape in shapes:
        for axis, length in enumerate(shape):
            dims[<int>axis] = length
        array = cnp.PyArray_SimpleNewFromData(<int>len(shape), dims, number, block.data + at)
        cnp.set_array_base(array, block)
        arrays.append(array)
        at += (itemsize * numbers_in(shape) + 63) & ~<size_t>63
    return arrays


def new_arrays(dtype, shapes):
    """Uninitialised arrays for results: in one block as above, unless they are so few numbers that
    this is not worth 0.2 us. From NumPy they would take as long up to 32 MB, three times as long
    beyond, where every page is fresh (to fill 2^14 numbers: 1.8 us; 2^23: 1.4 ms, from NumPy 4.5)."""
    cdef int64_t numbers = 0
    for shape in shapes:
        numbers += numbers_in(shape)
    return kept_arrays(dtype, shapes) if numbers >= 1 << 14 else [empty(shape, dtype) for shape in shapes]


cdef void copy_numbers(cnp.ndarray to, cnp.ndarray source) noexcept:
    """Between two C-contiguous arrays of one size."""
    cdef void *target = cnp.PyArray_DATA(to)
    cdef void *origin = cnp.PyArray_DATA(source)
    cdef size_t size = cnp.PyArray_NBYTES(to)
    with nogil:
        memcpy(target, origin, size)


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


def attention_tape_arrays(x, w_q, window, int64_t given):
    """Uninitialised: all arrays of an AttentionRNNTape, in its order; the last ones only where
    its kind of network has them."""
    T, B, n = x.shape
    before = given if window is None else window
    shared = w_q.ndim == 2
    shapes = [x.shape, w_q.shape, w_q.shape, w_q.shape, (before + T, B, n),
              (given + T, B, 1 if shared else window, n), x.shape, (T, B, (window or 0) + 1)]
    if shared:
        shapes.append(x.shape)
    if window is None:
        shapes += [(given + T, B), (T, B), (T, B)]
    return kept_arrays(x.dtype, shapes)


def attention_rnn_common(x, w_q, w_k, w_v, window, bint keep_tape):
    """h, or where the tape is to be kept (h, window, its arrays). None where not the common case:
    x (T, B, n) and weights as the kernels read them, no zero among their sizes, window an int or
    None."""
    cdef fc_attention_rnn net
    cdef fc_attention_tape kept
    cdef const fc_attention_tape *keep = NULL
    cdef cnp.ndarray h, states
    cdef size_t zeros
    if not read_attention(&net, x, w_q, w_k, w_v, window):
        return None
    (h,) = new_arrays(x.dtype, [x.shape])
    cdef void *x_data = cnp.PyArray_DATA(<cnp.ndarray>x)
    cdef void *q = cnp.PyArray_DATA(<cnp.ndarray>w_q)
    cdef void *k = cnp.PyArray_DATA(<cnp.ndarray>w_k)
    cdef void *v = cnp.PyArray_DATA(<cnp.ndarray>w_v)
    cdef char *y = <char *>cnp.PyArray_DATA(h)
    cdef int status
    if keep_tape:
        window = None if net.window < 0 else net.window
        arrays = attention_tape_arrays(x, w_q, window, 0)
        copy_numbers(arrays[0], x)
        copy_numbers(arrays[1], w_q)
        copy_numbers(arrays[2], w_k)
        copy_numbers(arrays[3], w_v)
        states = arrays[4]
        zeros = cnp.PyArray_NBYTES(states) - cnp.PyArray_NBYTES(h)
        y = <char *>cnp.PyArray_DATA(states)
        memset(y, 0, zeros)
        y += zeros
        kept.states, kept.grown = cnp.PyArray_DATA(states), data_or_null(arrays[5])
        kept.grown_x, kept.a = data_or_null(arrays[6]), data_or_null(arrays[7])
        kept.mixed = data_or_null(arrays[8]) if net.shared else NULL
        if net.window < 0:
            kept.scores, kept.m = data_or_null(arrays[9]), data_or_null(arrays[10])
            kept.z = data_or_null(arrays[11])
        keep = &kept
    with nogil:
        status = fc_attention_rnn_forward(&net, x_data, q, k, v, NULL, y, keep, thread_limit())
    if status != 0:
        raise MemoryError("no memory for the scratch space of attention_rnn")
    if not keep_tape:
        return h
    memcpy(cnp.PyArray_DATA(h), y, cnp.PyArray_NBYTES(h))
    return h, window, arrays


cdef bint read_attention(fc_attention_rnn *net, x, w_q, w_k, w_v, window) noexcept:
    """Fill in everything; is it the common case?"""
    net.dtype = kernel_dtype(x)
    if net.dtype < 0 or cnp.PyArray_NDIM(<cnp.ndarray>x) != 3 or kernel_dtype(w_q) != net.dtype:
        return False
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(<cnp.ndarray>x)
    net.steps, net.batch, net.n = shape[0], shape[1], shape[2]
    net.given, net.lengths = 0, NULL
    cdef int axes = cnp.PyArray_NDIM(<cnp.ndarray>w_q)
    shape = cnp.PyArray_DIMS(<cnp.ndarray>w_q)
    if axes != 2 and axes != 3 or shape[axes - 1] != net.n or shape[axes - 2] != net.n:
        return False
    for w in (w_k, w_v):
        if kernel_dtype(w) != net.dtype or not same_shape(w, w_q):
            return False
    net.shared = axes == 2
    net.window = -1
    if window is not None:
        if type(window) is not int or not 0 <= window < 1 << 16:
            return False
        net.window = window
    if axes == 3:
        if window is not None and net.window != shape[0] - 1:
            return False
        net.window = shape[0] - 1
        if net.window < 0:
            return False
    return net.steps > 0 and net.batch > 0 and net.n > 0


def attention_rnn_backward_common(grad_h, tape):
    """(dx, dw_q, dw_k, dw_v, dh0), or None where not the common case: grad_h (T, B, n) as the
    kernels read it and as the tape's numbers are, no zero among its sizes, no lengths."""
    x = tape.x
    if not is_matrix_like(grad_h, 3) or not same_shape(grad_h, x):
        return None
    if kernel_dtype(grad_h) != kernel_dtype(x) or not cnp.PyArray_SIZE(<cnp.ndarray>grad_h):
        return None
    states, w = tape.states, tape.w_q
    grad, dx, dw_q, dw_k, dw_v = kept_arrays(
        x.dtype, [states.shape, x.shape, w.shape, w.shape, w.shape])
    before = len(states) - len(x)
    cdef size_t zeros = cnp.PyArray_NBYTES(<cnp.ndarray>grad) - cnp.PyArray_NBYTES(<cnp.ndarray>grad_h)
    cdef char *direct = <char *>cnp.PyArray_DATA(<cnp.ndarray>grad)
    memset(direct, 0, zeros)
    memcpy(direct + zeros, cnp.PyArray_DATA(<cnp.ndarray>grad_h), cnp.PyArray_NBYTES(<cnp.ndarray>grad_h))
    attention_rnn_backward(grad, tape, dx, dw_q, dw_k, dw_v)
    return dx, dw_q, dw_k, dw_v, grad[:before].copy()


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
