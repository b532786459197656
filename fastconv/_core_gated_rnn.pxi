# The gated recurrent network: reads the operands into an fc_gated_rnn, allocates the results, and
# makes one call into src_c/gated_rnn.h. Called by gated_rnn.py.

cdef extern from "gated_rnn.h" nogil:
    ctypedef struct fc_gated_rnn:
        int dtype
        int batch_first
        int64_t steps, batch, inputs, states
        const int64_t *lengths
    ctypedef struct fc_gated_tape:
        void *x
        void *h
        void *c
        void *u
    ctypedef struct fc_gated_grads:
        void *x
        void *w_c
        void *w_h
        void *w_x
        void *h0
        void *b_c
        void *b_x
    int fc_gated_rnn_forward(const fc_gated_rnn *net, const void *x, const void *w_c,
                             const void *w_h, const void *w_x, const void *b_c, const void *b_x,
                             const void *h0, void *h, fc_gated_tape tape, int threads)
    int fc_gated_rnn_backward(const fc_gated_rnn *net, const void *w_c, const void *w_h,
                              const void *w_x, const void *h0, fc_gated_tape tape,
                              const void *grad_h, const void *grad_last, fc_gated_grads grads,
                              int threads)


def gated_rnn_forward(x, w_c, w_h, w_x, h0, b_c, b_x, lengths, bint batch_first, bint keep_tape):
    """h, or where the tape is to be kept (h, [copy of x, copy of h, c, u]), the steps first in
    these four. None where not the common case: x of three axes, and lengths as int64 between 0
    and T."""
    cdef fc_gated_rnn net
    if not is_matrix_like(x, 3):
        return None
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(<cnp.ndarray>x)
    net.batch_first = batch_first
    net.steps, net.batch, net.inputs = shape[batch_first], shape[not batch_first], shape[2]
    if not read_gated(&net, x, w_c, w_h, w_x, h0, 2, b_c, b_x):
        return None
    if not read_lengths(&net, lengths):
        return None
    (h,) = new_arrays(x.dtype, [(shape[0], shape[1], net.states)])
    cdef fc_gated_tape tape
    if not keep_tape:
        tape.x = tape.h = tape.c = tape.u = NULL
        run_gated(&net, x, w_c, w_h, w_x, h0, b_c, b_x, h, tape)
        return h
    states = (net.steps, net.batch, net.states)
    kept = kept_arrays(x.dtype, [(net.steps, net.batch, net.inputs), states, states, states])
    fill_tape(&tape, kept[0], kept[1], kept[2], kept[3])
    run_gated(&net, x, w_c, w_h, w_x, h0, b_c, b_x, h, tape)
    return h, kept


def gated_rnn_step(x_t, h_prev, w_c, w_h, w_x, b_c, b_x):
    """h_t, or None where this is not the common case: x_t and h_prev with the same axes."""
    cdef fc_gated_rnn net
    cdef int axes = 2
    if not is_matrix_like(x_t, 2):
        axes = 1
        if not is_matrix_like(x_t, 1):
            return None
    if not is_matrix_like(h_prev, axes):
        return None
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(<cnp.ndarray>x_t)
    net.batch_first = False
    net.steps, net.batch, net.inputs, net.lengths = 1, 1, shape[axes - 1], NULL
    if axes == 2:
        net.batch = shape[0]
    if not read_gated(&net, x_t, w_c, w_h, w_x, h_prev, axes, b_c, b_x):
        return None
    cdef cnp.ndarray h = empty_like(h_prev)
    cdef fc_gated_tape none
    none.x = none.h = none.c = none.u = NULL
    run_gated(&net, x_t, w_c, w_h, w_x, h_prev, b_c, b_x, h, none)
    return h


def gated_rnn_backward(grad_h, grad_h_last, x, w_c, w_h, w_x, h0, h, c, u, lengths,
                       bint batch_first):
    """The gradients (x, w_c, w_h, w_x, h0, b_c, b_x) from a tape's arrays, which are as
    gated_rnn_forward took the weights and gave the rest; None where grad_h or grad_h_last is not."""
    cdef fc_gated_rnn net
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(<cnp.ndarray>x)
    net.batch_first = batch_first
    net.steps, net.batch, net.inputs = shape[0], shape[1], shape[2]
    if not read_gated(&net, x, w_c, w_h, w_x, h0, 2, None, None) or not read_lengths(&net, lengths):
        return None
    if not is_matrix_like(grad_h, 3):
        return None
    cdef cnp.npy_intp *given = cnp.PyArray_DIMS(<cnp.ndarray>grad_h)
    if given[batch_first] != net.steps or given[not batch_first] != net.batch:
        return None
    if given[2] != net.states:
        return None
    if kernel_dtype(grad_h) != net.dtype or not is_state(grad_h_last, &net, 2):
        return None

    dx, dw_c, dw_h, dw_x, dh0, db_c, db_x = new_arrays(x.dtype, [
        (given[0], given[1], net.inputs), w_c.shape, w_h.shape, w_x.shape,
        (net.batch, net.states), (net.states,), (net.states,)])
    cdef fc_gated_tape tape
    cdef fc_gated_grads grads
    fill_tape(&tape, x, h, c, u)
    grads.x, grads.w_c, grads.w_h = data_or_null(dx), data_or_null(dw_c), data_or_null(dw_h)
    grads.w_x, grads.h0 = data_or_null(dw_x), data_or_null(dh0)
    grads.b_c, grads.b_x = data_or_null(db_c), data_or_null(db_x)
    cdef void *in_c = data_or_null(w_c)
    cdef void *in_h = data_or_null(w_h)
    cdef void *in_w = data_or_null(w_x)
    cdef void *in_0 = data_or_null(h0)
    cdef void *direct = data_or_null(grad_h)
    cdef void *last = data_or_null(grad_h_last)
    cdef int status
    with nogil:
        status = fc_gated_rnn_backward(&net, in_c, in_h, in_w, in_0, tape, direct, last, grads,
                                       thread_limit())
    if status != 0:
        raise MemoryError("no memory for the scratch space of a gated RNN")
    return dx, dw_c, dw_h, dw_x, dh0, db_c, db_x


cdef void fill_tape(fc_gated_tape *tape, x, h, c, u) noexcept:
    tape.x, tape.h, tape.c, tape.u = data_or_null(x), data_or_null(h), data_or_null(c), data_or_null(u)


cdef int run_gated(const fc_gated_rnn *net, x, w_c, w_h, w_x, h0, b_c, b_x, h,
                   fc_gated_tape tape) except -1:
    cdef void *in_x = data_or_null(x)
    cdef void *in_c = data_or_null(w_c)
    cdef void *in_h = data_or_null(w_h)
    cdef void *in_w = data_or_null(w_x)
    cdef void *bias_c = data_or_null(b_c)
    cdef void *bias_x = data_or_null(b_x)
    cdef void *in_0 = data_or_null(h0)
    cdef void *out = data_or_null(h)
    cdef int status
    with nogil:
        status = fc_gated_rnn_forward(net, in_x, in_c, in_h, in_w, bias_c, bias_x, in_0, out, tape,
                                      thread_limit())
    if status != 0:
        raise MemoryError("no memory for the scratch space of a gated RNN")
    return 0


# --- operands ----------------------------------------------------------------------------------

cdef inline bint is_matrix_like(object array, int axes) noexcept:
    """Is it an array of so many axes that the kernels can read?"""
    return kernel_dtype(array) >= 0 and cnp.PyArray_NDIM(<cnp.ndarray>array) == axes


cdef inline bint has_shape(object array, int dtype, int axes, int64_t rows, int64_t columns) noexcept:
    """Can the kernels read it as `dtype`, and is it (columns,) or (rows, columns)?"""
    if kernel_dtype(array) != dtype or cnp.PyArray_NDIM(<cnp.ndarray>array) != axes:
        return False
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(<cnp.ndarray>array)
    return shape[axes - 1] == columns and (axes == 1 or shape[0] == rows)


cdef inline bint is_state(object array, const fc_gated_rnn *net, int axes) noexcept:
    """None, or (B, m), or of one axis (m,)?"""
    return array is None or has_shape(array, net.dtype, axes, net.batch, net.states)


cdef bint read_gated(fc_gated_rnn *net, x, w_c, w_h, w_x, h0, int axes, b_c, b_x) noexcept:
    """Fill in dtype and states; does everything else fit them, and n and B?"""
    net.dtype = kernel_dtype(x)
    if not is_matrix_like(w_h, 2):
        return False
    net.states = cnp.PyArray_DIM(<cnp.ndarray>w_h, 0)
    if not has_shape(w_h, net.dtype, 2, net.states, net.states):
        return False
    if not has_shape(w_c, net.dtype, 2, net.states, net.inputs):
        return False
    if not has_shape(w_x, net.dtype, 2, net.states, net.inputs):
        return False
    if b_c is not None and not has_shape(b_c, net.dtype, 1, 1, net.states):
        return False
    if b_x is not None and not has_shape(b_x, net.dtype, 1, 1, net.states):
        return False
    return is_state(h0, net, axes)


cdef bint read_lengths(fc_gated_rnn *net, lengths) noexcept:
    """Fill in lengths, or NULL for None; are they int64, one a sequence, between 0 and T?"""
    net.lengths = NULL
    if lengths is None:
        return True
    if type(lengths) is not cnp.ndarray or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>lengths):
        return False
    if cnp.PyArray_TYPE(<cnp.ndarray>lengths) != cnp.NPY_INT64:
        return False
    if cnp.PyArray_NDIM(<cnp.ndarray>lengths) != 1:
        return False
    if cnp.PyArray_DIM(<cnp.ndarray>lengths, 0) != net.batch:
        return False
    net.lengths = <const int64_t *>cnp.PyArray_DATA(<cnp.ndarray>lengths)
    cdef int64_t b
    for b in range(net.batch):
        if net.lengths[b] < 0 or net.lengths[b] > net.steps:
            return False
    return True


cdef inline bint same_shape(object a, object b) noexcept:
    cdef int axes = cnp.PyArray_NDIM(<cnp.ndarray>a)
    if axes != cnp.PyArray_NDIM(<cnp.ndarray>b):
        return False
    cdef int axis
    for axis in range(axes):
        if cnp.PyArray_DIM(<cnp.ndarray>a, axis) != cnp.PyArray_DIM(<cnp.ndarray>b, axis):
            return False
    return True


cdef inline void *data_or_null(object array) noexcept:
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)


# --- exp and sigmoid, for the tests --------------------------------------------------------------

cdef extern from "kernels.h" nogil:
    ctypedef struct fc_kernels:
        void (*exp)(const void *x, void *y, int64_t count) noexcept nogil
        void (*sigmoid)(const void *x, void *y, int64_t count) noexcept nogil
    const fc_kernels *fc_active[2]


def cell_function(name, cnp.ndarray x):
    """The kernels' own exp or sigmoid of an array that they can read."""
    cdef int dtype = kernel_dtype(x)
    if dtype < 0 or name not in ("exp", "sigmoid"):
        raise ValueError(f"cannot compute {name} of this")
    cdef cnp.ndarray y = empty_like(x)
    cdef int64_t count = cnp.PyArray_SIZE(x)
    cdef bint sigmoid = name == "sigmoid"
    with nogil:
        if sigmoid:
            fc_active[dtype].sigmoid(cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), count)
        else:
            fc_active[dtype].exp(cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), count)
    return y
