# Convolution: reads the operands and the geometry into an fc_conv, allocates the result, and
# makes one call into src_c/conv.h. Called by conv.py.

from numpy import broadcast_to

cdef extern from "conv.h" nogil:
    enum:
        FC_OK
        FC_AUTO
        FC_DIRECT
        FC_WINOGRAD
    ctypedef struct fc_conv:
        int dtype
        int algorithm
        int64_t batch, groups, in_channels, out_channels
        # "in" is a word of Python's; the C name stands in quotes.
        int64_t image "in"[3]
        int64_t kernel[3]
        int64_t out[3]
        int64_t stride[3]
        int64_t dilation[3]
        int64_t before[3]
    int fc_conv_forward(const fc_conv *conv, const void *x, const void *w, const void *bias,
                        void *y, int threads)
    size_t fc_conv_packed_bytes(const fc_conv *conv)
    int fc_conv_pack(const fc_conv *conv, const void *w, void *packed, int threads)
    int fc_conv_grad_input(const fc_conv *conv, const void *dy, const void *w, const void *bias,
                           void *dx, int threads)
    int fc_conv_grad_weight(const fc_conv *conv, const void *dy, const void *x, void *dw,
                            int threads)
    int fc_conv_grad_bias(const fc_conv *conv, const void *dy, void *db, int threads)

cdef extern from "conv_job.h" nogil:
    ctypedef struct fc_plan:
        fc_conv conv
        double multiply_adds
    void fc_conv_plan(fc_plan *plan, const fc_conv *conv, bint packed)
    int fc_conv_run(const fc_plan *plan, const void *x, const void *w, const void *packed,
                    const void *bias, void *y, int threads)

cdef extern from "conv_winograd.h" nogil:
    bint fc_winograd_fits(const fc_conv *conv)

cdef extern from "conv_cost.h" nogil:
    enum:
        FC_FORWARD
        FC_TRANSFORMS
        FC_TRANSFORMS_GRAD_WEIGHT
        FC_WAYS
        FC_TERMS
    int64_t fc_vector_bytes(const fc_conv *conv)
    int fc_conv_choose(const fc_conv *conv, int which, int prepared)
    void fc_conv_terms(const fc_conv *conv, int which, int prepared, int64_t bytes,
                       double (*terms)[FC_TERMS])
    void fc_conv_force_way(int way)

# As conv_job.h lists them.
WAYS = ("panels", "planes", "apart", "depthwise", "toeplitz", "channelwise", "patches",
        "columns", "winograd", "channels", "dots", "channelwise_grad_weight",
        "patches_grad_weight", "winograd_grad_weight")

# Strides, dilations and paddings stay below 2^31 and every array below 2^60 bytes: no product
# that a driver forms can leave int64.
cdef int64_t AXIS_LIMIT = <int64_t>1 << 31
cdef double BYTES_LIMIT = <double>(<int64_t>1 << 60)

# Multiply-adds and cells of the input below which a call takes a microsecond or so: other Python
# threads wait that long, as letting them run would cost a tenth of it.
cdef double BRIEF = 4096


# --- forward and backward ----------------------------------------------------------------------

def conv_forward(int rank, input, weight, bias, stride, padding, dilation, groups, algorithm, out,
                 packed=None):
    """y, or None where this is not the common case. `packed`: from pack_weights, if at all."""
    cdef fc_conv conv
    cdef fc_plan plan
    cdef cnp.ndarray x, w, y
    if not read_operands(&conv, rank, input, weight):
        return None
    x, w = input, weight
    if not read_conv(&conv, rank, x, w, stride, padding, dilation, groups):
        return None
    if not read_algorithm(&conv, algorithm):
        return None
    if not is_bias(bias, &conv, conv.out_channels):
        return None
    y = output(rank, x, w, bias, conv.out_channels, conv.out, out)
    if y is not None:
        fc_conv_plan(&plan, &conv, packed is not None)
        run_forward(&plan, x, w, bias, packed, y)
    return y


cdef int run_forward(const fc_plan *plan, cnp.ndarray x, cnp.ndarray w, object bias, object packed,
                     cnp.ndarray y) except -1:
    cdef void *b = bias_data(bias)
    cdef void *p = NULL if packed is None else aligned(<cnp.ndarray>packed)
    cdef int status
    if plan.multiply_adds < BRIEF and cnp.PyArray_SIZE(x) < BRIEF:
        status = fc_conv_run(plan, cnp.PyArray_DATA(x), cnp.PyArray_DATA(w), p, b,
                             cnp.PyArray_DATA(y), 1)
    else:
        with nogil:
            status = fc_conv_run(plan, cnp.PyArray_DATA(x), cnp.PyArray_DATA(w), p, b,
                                 cnp.PyArray_DATA(y), thread_limit())
    if status != FC_OK:
        raise MemoryError("no memory for the scratch space of a convolution")
    return 0


@cython.final
@cython.auto_pickle(False)
cdef class Plan:
    """How images of one shape are convolved. Never changed once it is made."""
    cdef fc_plan plan

    cdef bint fits(self, int rank, cnp.ndarray x) noexcept:
        """Is x such an image, in such a batch?"""
        cdef const fc_conv *conv = &self.plan.conv
        return has_lengths(rank, x, conv.batch, conv.in_channels, conv.image)


@cython.auto_pickle(False)
cdef class PreparedForward:
    """conv_forward with everything read beforehand but the input: what a call of PreparedConv is.
    That hands over what it holds by `keep`, and has `general` for what is not the common case."""
    cdef fc_conv conv        # without an image; its dtype -1: nothing is common about these weights
    cdef Plan plan           # for images as the last one, or None
    cdef int rank
    cdef object padding
    cdef object bias
    cdef object packed
    cdef cnp.ndarray weight

    def keep(self, int rank, weight, bias, stride, padding, dilation, groups, algorithm, packed):
        self.conv.dtype = kernel_dtype(weight)
        self.conv.algorithm = FC_WINOGRAD if algorithm == "winograd" else FC_DIRECT
        if not read_weight(&self.conv, rank, weight, stride, dilation, groups):
            self.conv.dtype = -1
        self.rank, self.weight, self.bias, self.packed, self.padding = rank, weight, bias, packed, padding
        self.plan = None

    def __call__(self, input, *, out=None):
        """The convolution of `input` ([N,] C, \\*spatial); see `conv2d`."""
        cdef Plan plan
        cdef cnp.ndarray y
        if (self.conv.dtype >= 0 and self.conv.dtype == kernel_dtype(input)
                and has_rank(input, self.rank)):
            plan = self.planned(input)
            if plan is not None:
                y = output(self.rank, input, self.weight, self.bias, plan.plan.conv.out_channels,
                           plan.plan.conv.out, out)
                if y is not None:
                    run_forward(&plan.plan, input, self.weight, self.bias, self.packed, y)
                    return y
        return self.general(input, out)

    cdef Plan planned(self, cnp.ndarray x):
        """The last call's plan if x is such an image, else a new one in its place (a call that is at
        it on another thread holds it); None where x is not the common case."""
        cdef Plan plan
        cdef fc_conv conv
        with cython.critical_section(self):
            plan = self.plan
        if plan is not None and plan.fits(self.rank, x):
            return plan
        conv = self.conv
        if not read_input(&conv, self.rank, x, self.padding):
            return None
        if conv.algorithm == FC_WINOGRAD and not fc_winograd_fits(&conv):
            return None
        plan = Plan()
        fc_conv_plan(&plan.plan, &conv, self.packed is not None)
        with cython.critical_section(self):
            self.plan = plan
        return plan


cdef inline void *aligned(cnp.ndarray packed) noexcept:
    """The first cache line that lies wholly in it."""
    return <void *>((<size_t>cnp.PyArray_DATA(packed) + 63) // 64 * 64)


def conv_way(int rank, input_shape, weight, stride, padding, dilation, groups, algorithm,
             int which=FC_FORWARD, bint prepared=True):
    """Which of WAYS a convolution takes, prepared or not, or one of its gradients (`which`): the
    one that is named, or the cheapest for images of that shape, of middle size where it is None."""
    cdef fc_conv conv
    if not read_prepared(&conv, rank, input_shape, weight, stride, padding, dilation, groups):
        return "panels"
    if not read_algorithm(&conv, algorithm):
        return "panels"
    return WAYS[fc_conv_choose(&conv, which, prepared)]


def conv_terms(int rank, input_shape, weight, stride, padding, dilation, groups,
               int which, bint prepared):
    """What fc_conv_terms says of each way that fits. For bench/sweep.py."""
    cdef fc_conv conv
    cdef double terms[FC_WAYS][FC_TERMS]
    if not read_prepared(&conv, rank, input_shape, weight, stride, padding, dilation, groups):
        return {}
    conv.algorithm = FC_AUTO
    fc_conv_terms(&conv, which, prepared, fc_vector_bytes(&conv), terms)
    return {WAYS[way]: [terms[way][i] for i in range(FC_TERMS)]
            for way in range(FC_WAYS) if terms[way][FC_TERMS - 1]}


def force_way(name):
    """Take that way wherever it fits, None for the cheapest; for measurements. Not while anything
    runs."""
    fc_conv_force_way(FC_WAYS if name is None else WAYS.index(name))


def pack_weights(int rank, weight, stride, padding, dilation, groups, algorithm):
    """The weights as that algorithm wants them, for conv_forward: bytes, or None where nothing is
    gained or nothing summed."""
    cdef fc_conv conv
    cdef cnp.ndarray packed
    cdef cnp.npy_intp size
    cdef int status
    cdef void *p
    cdef void *w
    if not read_prepared(&conv, rank, None, weight, stride, padding, dilation, groups):
        return None
    conv.algorithm = FC_WINOGRAD if algorithm == "winograd" else FC_DIRECT
    size = fc_conv_packed_bytes(&conv)
    if size == 0:
        return None
    size += 63
    packed = cnp.PyArray_EMPTY(1, &size, cnp.NPY_UINT8, 0)
    p = aligned(packed)
    w = cnp.PyArray_DATA(<cnp.ndarray>weight)
    with nogil:
        status = fc_conv_pack(&conv, w, p, thread_limit())
    if status != FC_OK:
        raise MemoryError("no memory to pack the weights of a convolution")
    return packed


cdef bint read_prepared(fc_conv *conv, int rank, input_shape, weight, stride, padding, dilation,
                        groups):
    """Weights without an image: an input of that shape, or one of middle size."""
    shape = input_shape
    if shape is None:
        spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:])]
        middle = ((1024,), (28, 28), (14, 14, 14))[rank - 1]
        shape = (1, weight.shape[1] * groups, *map(max, middle, spans))
    conv.algorithm = FC_AUTO
    conv.dtype = kernel_dtype(weight)
    return read_conv(conv, rank, broadcast_to(0, shape), weight, stride, padding, dilation, groups)


def conv_backward(int rank, grad_output, input, weight, stride, padding, dilation, groups,
                  output_mask, algorithm):
    """(dx, dw, db), None for what the mask leaves out; None where not the common case."""
    cdef fc_conv conv
    cdef bint mask[3]
    cdef cnp.ndarray x, w
    if not read_mask(output_mask, mask):
        return None
    if not read_operands(&conv, rank, input, weight):
        return None
    x, w = input, weight
    if not read_conv(&conv, rank, x, w, stride, padding, dilation, groups):
        return None
    if not read_algorithm(&conv, algorithm):
        return None
    if not is_image(grad_output, &conv, rank, cnp.PyArray_NDIM(x), conv.out_channels, conv.out):
        return None
    return gradients(&conv, grad_output, x, w, mask, False)


def conv_transpose_forward(int rank, input, weight, bias, stride, padding, output_padding, groups,
                           dilation):
    """y, or None where this is not the common case. The input gradient of the mirrored
    convolution, which maps y to x: its dy is our input, its dx our output."""
    cdef fc_conv conv
    cdef int status
    cdef cnp.ndarray x, w, y
    if not read_operands(&conv, rank, input, weight):
        return None
    x, w = input, weight
    if not read_conv_transpose(&conv, rank, x, w, stride, padding, output_padding, groups, dilation):
        return None
    if not is_bias(bias, &conv, conv.in_channels):
        return None
    y = output(rank, x, w, bias, conv.in_channels, conv.image, None)

    cdef void *b = bias_data(bias)
    with nogil:
        status = fc_conv_grad_input(&conv, cnp.PyArray_DATA(x), cnp.PyArray_DATA(w), b,
                                    cnp.PyArray_DATA(y), thread_limit())
    if status != FC_OK:
        raise MemoryError("no memory for the scratch space of a convolution")
    return y


def conv_transpose_backward(int rank, grad_output, input, weight, stride, padding, output_padding,
                            groups, dilation, output_mask):
    """(dx, dw, db), None for what the mask leaves out; None where not the common case."""
    cdef fc_conv conv
    cdef bint mask[3]
    cdef cnp.ndarray x, w
    if not read_mask(output_mask, mask):
        return None
    if not read_operands(&conv, rank, input, weight):
        return None
    x, w = input, weight
    if not read_conv_transpose(&conv, rank, x, w, stride, padding, output_padding, groups, dilation):
        return None
    if not is_image(grad_output, &conv, rank, cnp.PyArray_NDIM(x), conv.in_channels, conv.image):
        return None
    return gradients(&conv, grad_output, x, w, mask, True)


cdef object gradients(const fc_conv *conv, cnp.ndarray dy, cnp.ndarray x, cnp.ndarray w,
                      const bint *mask, bint transposed):
    """The gradients of a convolution, or of the transposed convolution that mirrors `conv`."""
    cdef cnp.ndarray dx = empty_like(x) if mask[0] else None
    cdef cnp.ndarray dw = empty_like(w) if mask[1] else None
    cdef cnp.ndarray db = None
    cdef cnp.npy_intp channels = conv.in_channels if transposed else conv.out_channels
    if mask[2]:
        db = cnp.PyArray_EMPTY(1, &channels, cnp.PyArray_TYPE(x), 0)

    cdef void *grad_output = cnp.PyArray_DATA(dy)
    cdef void *input = cnp.PyArray_DATA(x)
    cdef void *weight = cnp.PyArray_DATA(w)
    cdef void *grad_input = cnp.PyArray_DATA(dx) if mask[0] else NULL
    cdef void *grad_weight = cnp.PyArray_DATA(dw) if mask[1] else NULL
    cdef void *grad_bias = cnp.PyArray_DATA(db) if mask[2] else NULL
    cdef fc_conv turned
    cdef int status = FC_OK
    cdef int threads
    with nogil:
        threads = thread_limit()
        if transposed:
            if mask[0]:
                status |= fc_conv_forward(conv, grad_output, weight, NULL, grad_input, threads)
            if mask[1]:
                status |= fc_conv_grad_weight(conv, input, grad_output, grad_weight, threads)
            if mask[2]:
                turned = with_output_as_image(conv)
                status |= fc_conv_grad_bias(&turned, grad_output, grad_bias, threads)
        else:
            if mask[0]:
                status |= fc_conv_grad_input(conv, grad_output, weight, NULL, grad_input, threads)
            if mask[1]:
                status |= fc_conv_grad_weight(conv, grad_output, input, grad_weight, threads)
            if mask[2]:
                status |= fc_conv_grad_bias(conv, grad_output, grad_bias, threads)
    if status != FC_OK:
        raise MemoryError("no memory for the scratch space of a convolution")
    return (dx, dw, db)


cdef fc_conv with_output_as_image(const fc_conv *conv) noexcept nogil:
    """`conv` with its image in the place of its output: all that fc_conv_grad_bias reads."""
    cdef fc_conv turned = conv[0]
    cdef int axis
    turned.out_channels = conv.in_channels
    for axis in range(3):
        turned.out[axis] = conv.image[axis]
    return turned


# --- reading the geometry ----------------------------------------------------------------------

cdef bint read_operands(fc_conv *conv, int rank, object input, object weight) noexcept:
    """Both as the kernels read them, of one dtype, with the right number of axes?"""
    conv.algorithm = FC_AUTO
    conv.dtype = kernel_dtype(input)
    if conv.dtype < 0 or kernel_dtype(weight) != conv.dtype:
        return False
    return has_rank(input, rank) and cnp.PyArray_NDIM(<cnp.ndarray>weight) == rank + 2


cdef inline bint has_rank(object input, int rank) noexcept:
    """Has it the axes ([N,] C, *spatial)?"""
    cdef int ndim = cnp.PyArray_NDIM(<cnp.ndarray>input)
    return ndim == rank + 2 or ndim == rank + 1


cdef bint read_conv(fc_conv *conv, int rank, cnp.ndarray x, cnp.ndarray w, object stride,
                    object padding, object dilation, object groups) noexcept:
    return (read_weight(conv, rank, w, stride, dilation, groups)
            and read_input(conv, rank, x, padding))


cdef bint read_input(fc_conv *conv, int rank, cnp.ndarray x, object padding) noexcept:
    """The image, and what the weights, read before, make of it."""
    cdef int64_t after[3]
    cdef int64_t channels
    cdef int64_t span
    cdef int axis
    read_image(rank, x, &conv.batch, &channels, conv.image)
    if channels != conv.in_channels or not read_padding(conv, rank, padding, after):
        return False
    for axis in range(3):
        span = conv.image[axis] + conv.before[axis] + after[axis]
        span -= conv.dilation[axis] * (conv.kernel[axis] - 1) + 1
        if span < 0:
            return False
        conv.out[axis] = span // conv.stride[axis] + 1
    return has_sane_sizes(conv, after)


cdef bint read_conv_transpose(fc_conv *conv, int rank, cnp.ndarray x, cnp.ndarray w,
                              object stride, object padding, object output_padding,
                              object groups, object dilation) noexcept:
    cdef int64_t after[3]
    cdef int64_t extra[3]
    cdef int64_t channels
    cdef int axis
    if not read_weight(conv, rank, w, stride, dilation, groups):
        return False
    read_image(rank, x, &conv.batch, &channels, conv.out)
    if channels != conv.out_channels or not read_axes(output_padding, rank, 0, extra):
        return False
    if isinstance(padding, str) or not read_padding(conv, rank, padding, after):
        return False
    for axis in range(3):
        if axis < 3 - rank:
            extra[axis] = 0
        elif extra[axis] >= conv.stride[axis] and extra[axis] >= conv.dilation[axis]:
            return False
        if <double>conv.out[axis] * conv.stride[axis] > BYTES_LIMIT:
            return False
        conv.image[axis] = ((conv.out[axis] - 1) * conv.stride[axis] - conv.before[axis] - after[axis]
                            + conv.dilation[axis] * (conv.kernel[axis] - 1) + extra[axis] + 1)
    return has_sane_sizes(conv, after)


cdef bint read_weight(fc_conv *conv, int rank, cnp.ndarray w, object stride, object dilation,
                      object groups) noexcept:
    """The channels, the kernel, and how it is laid over the image."""
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(w)
    cdef int axis
    if not read_int(groups, 1, &conv.groups):
        return False
    conv.out_channels = shape[0]
    if <double>shape[1] * conv.groups > BYTES_LIMIT or shape[0] % conv.groups != 0:
        return False
    conv.in_channels = shape[1] * conv.groups
    for axis in range(3):
        conv.kernel[axis] = 1 if axis < 3 - rank else shape[axis + rank - 1]
    if not read_axes(stride, rank, 1, conv.stride) or not read_axes(dilation, rank, 1, conv.dilation):
        return False
    for axis in range(3):
        if <double>conv.dilation[axis] * conv.kernel[axis] > BYTES_LIMIT:
            return False
    return True


cdef void read_image(int rank, cnp.ndarray x, int64_t *batch, int64_t *channels,
                     int64_t *lengths) noexcept:
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(x)
    cdef int axis
    batch[0] = 1
    if cnp.PyArray_NDIM(x) == rank + 2:
        batch[0] = shape[0]
        shape += 1
    channels[0] = shape[0]
    for axis in range(3):
        lengths[axis] = 1 if axis < 3 - rank else shape[axis + rank - 2]


cdef bint read_padding(fc_conv *conv, int rank, object padding, int64_t *after) noexcept:
    """Into conv.before and after: an int, one int an axis, one pair an axis, or a word."""
    cdef int first = 3 - rank
    cdef int axis
    cdef int64_t pair[3]
    for axis in range(3):
        conv.before[axis] = after[axis] = 0
    if isinstance(padding, str):
        if padding == "same":
            for axis in range(3):
                same_padding(conv, axis, after)
            return True
        return padding == "valid"
    if type(padding) is tuple and len(<tuple>padding) == rank and type((<tuple>padding)[0]) is tuple:
        for axis in range(rank):
            if not read_axes((<tuple>padding)[axis], 2, 0, pair):
                return False
            conv.before[first + axis] = pair[1]
            after[first + axis] = pair[2]
        return True
    if not read_axes(padding, rank, 0, conv.before):
        return False
    for axis in range(3):
        if axis < first:
            conv.before[axis] = 0
        after[axis] = conv.before[axis]
    return True


cdef void same_padding(fc_conv *conv, int axis, int64_t *after) noexcept:
    """So much that the output has ceil(length / stride) cells; the odd cell goes after."""
    cdef int64_t cells = (conv.image[axis] + conv.stride[axis] - 1) // conv.stride[axis]
    cdef int64_t total = ((cells - 1) * conv.stride[axis]
                          + conv.dilation[axis] * (conv.kernel[axis] - 1) + 1 - conv.image[axis])
    if total > 0:
        conv.before[axis] = total // 2
        after[axis] = total - total // 2


cdef bint read_axes(object value, int rank, int64_t minimum, int64_t *axes) noexcept:
    """An int for all axes or a tuple of `rank` ints, into the last `rank` of three places; the
    others become 1."""
    cdef int axis
    cdef int64_t number
    axes[0] = axes[1] = 1
    if type(value) is int:
        if not read_int(value, minimum, &number):
            return False
        for axis in range(3 - rank, 3):
            axes[axis] = number
        return True
    if type(value) is not tuple or len(<tuple>value) != rank:
        return False
    for axis in range(rank):
        if not read_int((<tuple>value)[axis], minimum, &axes[3 - rank + axis]):
            return False
    return True


cdef inline bint read_int(object value, int64_t minimum, int64_t *number) noexcept:
    cdef int overflow = 0
    if type(value) is not int:
        return False
    number[0] = PyLong_AsLongLongAndOverflow(value, &overflow)
    return overflow == 0 and minimum <= number[0] < AXIS_LIMIT


cdef bint read_mask(object value, bint *mask) noexcept:
    cdef int i
    if type(value) is not tuple or len(<tuple>value) != 3:
        return False
    for i in range(3):
        if type((<tuple>value)[i]) is not bool:
            return False
        mask[i] = (<tuple>value)[i] is True
    return True


cdef bint read_algorithm(fc_conv *conv, object algorithm) noexcept:
    """Into conv.algorithm: a name that is known and fits the rest of conv."""
    if not isinstance(algorithm, str):
        return False
    if algorithm == "direct":
        conv.algorithm = FC_DIRECT
    elif algorithm == "winograd":
        conv.algorithm = FC_WINOGRAD
        return fc_winograd_fits(conv)
    return algorithm == "auto" or algorithm == "direct"


cdef bint has_sane_sizes(const fc_conv *conv, const int64_t *after) noexcept:
    """Nothing empty (conv.py settles that without a kernel), nothing beyond all memory?"""
    cdef double image = sizeof(double)
    cdef double output = sizeof(double)
    cdef int axis
    if conv.batch < 1 or conv.in_channels < 1 or conv.out_channels < 1:
        return False
    for axis in range(3):
        if conv.image[axis] < 1 or conv.kernel[axis] < 1 or conv.out[axis] < 1:
            return False
        image *= <double>conv.image[axis] + conv.before[axis] + after[axis]
        output *= conv.out[axis]
    image *= <double>conv.batch * conv.in_channels
    output *= <double>conv.batch * conv.out_channels
    return image < BYTES_LIMIT and output < BYTES_LIMIT


# --- arrays ------------------------------------------------------------------------------------

cdef bint is_bias(object bias, const fc_conv *conv, int64_t channels) noexcept:
    """None, or an array (channels,) of the same dtype?"""
    if bias is None:
        return True
    if kernel_dtype(bias) != conv.dtype or cnp.PyArray_NDIM(<cnp.ndarray>bias) != 1:
        return False
    return cnp.PyArray_DIM(<cnp.ndarray>bias, 0) == channels


cdef inline void *bias_data(object bias) noexcept:
    return NULL if bias is None else cnp.PyArray_DATA(<cnp.ndarray>bias)


cdef bint is_image(object array, const fc_conv *conv, int rank, int ndim, int64_t channels,
                   const int64_t *lengths) noexcept:
    """An array of the same dtype, ([N,] channels, *lengths), unbatched where ndim = rank + 1?"""
    if kernel_dtype(array) != conv.dtype or cnp.PyArray_NDIM(<cnp.ndarray>array) != ndim:
        return False
    return has_lengths(rank, <cnp.ndarray>array, conv.batch, channels, lengths)


cdef inline bint has_lengths(int rank, cnp.ndarray x, int64_t batch, int64_t channels,
                             const int64_t *lengths) noexcept:
    """([N,] channels, *lengths)?"""
    cdef int64_t got_batch
    cdef int64_t got_channels
    cdef int64_t got[3]
    read_image(rank, x, &got_batch, &got_channels, got)
    return (got_batch == batch and got_channels == channels and got[0] == lengths[0]
            and got[1] == lengths[1] and got[2] == lengths[2])


cdef cnp.ndarray output(int rank, cnp.ndarray x, cnp.ndarray w, object bias, int64_t channels,
                        const int64_t *lengths, object out):
    """A new array for the result, or `out` where it fits, else None."""
    cdef cnp.npy_intp shape[5]
    cdef int ndim = cnp.PyArray_NDIM(x)
    cdef int axis
    shape[0] = cnp.PyArray_DIM(x, 0)
    shape[ndim - rank - 1] = channels
    for axis in range(rank):
        shape[ndim - rank + axis] = lengths[3 - rank + axis]
    if out is None:
        return cnp.PyArray_EMPTY(ndim, shape, cnp.PyArray_TYPE(x), 0)

    if kernel_dtype(out) < 0 or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>out):
        return None
    if (cnp.PyArray_TYPE(<cnp.ndarray>out) != cnp.PyArray_TYPE(x)
            or cnp.PyArray_NDIM(<cnp.ndarray>out) != ndim):
        return None
    for axis in range(ndim):
        if cnp.PyArray_DIM(<cnp.ndarray>out, axis) != shape[axis]:
            return None
    if overlap(out, x) or overlap(out, w) or (bias is not None and overlap(out, bias)):
        return None
    return out


cdef inline cnp.ndarray empty_like(cnp.ndarray array):
    return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(array), cnp.PyArray_DIMS(array),
                             cnp.PyArray_TYPE(array), 0)
