"""How each library is called.

A peer is a class with one method for each kind of row that it can do:

    conv(row, which, *operands) -> a function without arguments that does the row's work once,
                                   all of it, and returns the results (one array, or several);
                                   None where the peer cannot do it
    arrays(results)             -> the same as NumPy arrays, where np.asarray would not do

What such a function does is the whole call as a user of that library writes it; what the user
would do once beforehand (compiling, moving operands into the library's own arrays) is done here.
The inference engines are in engines.py. `serve` is the process in which a peer lives.
"""

import os
import sys
import time

import attention_peers
import gated_peers
import numpy as np
from engines import Mnn, Ncnn, Onnxruntime, Openvino

SAMPLE_SECONDS = 0.02  # each sample's work lasts at least so long


class Fastconv:
    def __init__(self, threads, algorithm="auto"):
        import fastconv

        self.fc = fastconv
        self.algorithm = algorithm
        fastconv.set_num_threads(threads)

    def conv(self, row, which, x, w, dy):
        settings = row.stride, row.padding, row.dilation, row.groups
        named = {} if self.algorithm == "auto" else {"algorithm": self.algorithm}
        if which == "prepared":
            prepared = self.fc.prepare_conv(w, None, *settings, input_shape=x.shape, **named)
            return lambda: prepared(x)
        if which == "forward":
            conv = getattr(self.fc, f"conv{row.rank}d")
            return lambda: conv(x, w, None, *settings, **named)
        backward = getattr(self.fc, f"conv{row.rank}d_backward")
        mask = (True, True, False)
        return lambda: backward(dy, x, w, *settings, output_mask=mask, **named)[:2]

    def attention_rnn(self, row, which, x, w_q, w_k, w_v, grad_h):
        return attention_rnn(self.fc, row, which, x, w_q, w_k, w_v, grad_h)

    def gated_rnn(self, row, which, *operands):
        return gated_rnn(self.fc, which, *operands)


def attention_rnn(library, row, which, x, w_q, w_k, w_v, grad_h):
    if which == "forward":
        return lambda: library.attention_rnn(x, w_q, w_k, w_v, window=row.window)

    def bptt():
        _, tape = library.attention_rnn(x, w_q, w_k, w_v, window=row.window, return_tape=True)
        return library.attention_rnn_backward(grad_h, tape)[:4]

    return bptt


def gated_rnn(library, which, x, w_c, w_h, w_x, grad_h):
    if which == "forward":
        return lambda: library.gated_rnn(x, w_c, w_h, w_x)

    def bptt():
        _, tape = library.gated_rnn(x, w_c, w_h, w_x, return_tape=True)
        return library.gated_rnn_backward(grad_h, tape)[:4]

    return bptt


class Reference:
    """fastconv.reference: what a NumPy user writes."""

    LARGEST_COLUMNS = 2e9  # bytes; longconv.k512 would need 4.5e9

    def __init__(self, threads):
        import threadpoolctl

        import fastconv.reference

        self.limits = threadpoolctl.threadpool_limits(threads)
        self.reference = fastconv.reference

    def conv(self, row, which, x, w, dy):
        s, p, d, g = row.stride, row.padding, row.dilation, row.groups
        columns = row.flops("forward") / 2 / w.shape[0] * g * x.itemsize
        if which == "prepared" or columns > self.LARGEST_COLUMNS:
            return None
        if which == "forward":
            conv = getattr(self.reference, f"conv{row.rank}d")
            return lambda: conv(x, w, None, s, p, d, g)
        backward = getattr(self.reference, f"conv{row.rank}d_backward")
        return lambda: backward(dy, x, w, s, p, d, g, output_mask=(True, True, False))[:2]

    def attention_rnn(self, row, which, x, w_q, w_k, w_v, grad_h):
        return attention_rnn(self.reference, row, which, x, w_q, w_k, w_v, grad_h)

    def gated_rnn(self, row, which, *operands):
        return gated_rnn(self.reference, which, *operands)


class Torch:
    def __init__(self, threads):
        import torch

        self.torch = torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def conv(self, row, which, x, w, dy):
        x, w, dy = map(self.torch.from_numpy, (x, w, dy))
        s, p, d, g = row.stride, row.padding, row.dilation, row.groups
        if which == "prepared":
            return None
        if which == "forward":
            conv = getattr(self.torch.nn.functional, f"conv{row.rank}d")
            return lambda: conv(x, w, None, s, p, d, g)
        backward = self.torch.ops.aten.convolution_backward
        each, zero, mask = [1] * row.rank, [0] * row.rank, [True, True, False]
        s, p, d = ([value * one for one in each] for value in (s, p, d))
        return lambda: backward(dy, x, w, None, s, p, d, False, zero, g, mask)[:2]

    def attention_rnn(self, row, which, *operands):
        return self.network(attention_peers.torch_network(self.torch, row.window), which, operands)

    def gated_rnn(self, row, which, *operands):
        return self.network(gated_peers.torch_network(self.torch), which, operands)

    def network(self, network, which, operands):
        *operands, grad_h = map(self.torch.from_numpy, operands)
        if which == "forward":
            return lambda: network(*operands)

        def bptt():
            with self.torch.enable_grad():
                leaves = [operand.detach().requires_grad_() for operand in operands]
                return self.torch.autograd.grad(network(*leaves), leaves, grad_h)

        return bptt


class Jax:
    def __init__(self, threads):
        # Its pool has a thread for each core that the process may use: `serve` sees to that.
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax

        jax.config.update("jax_enable_x64", True)
        self.jax = jax

    def conv(self, row, which, x, w, dy):
        jax = self.jax
        if which == "prepared":
            return None

        def conv(x, w):
            return jax.lax.conv_general_dilated(
                x,
                w,
                [row.stride] * row.rank,
                [(row.padding, row.padding)] * row.rank,
                rhs_dilation=[row.dilation] * row.rank,
                feature_group_count=row.groups,
            )

        if which == "forward":
            return self.compiled(conv, x, w)
        return self.compiled(lambda x, w, dy: jax.vjp(conv, x, w)[1](dy), x, w, dy)

    def attention_rnn(self, row, which, *operands):
        return self.network(attention_peers.jax_network(self.jax, row.window), which, operands)

    def gated_rnn(self, row, which, *operands):
        return self.network(gated_peers.jax_network(self.jax), which, operands)

    def network(self, network, which, operands):
        if which == "forward":
            return self.compiled(network, *operands[:4])
        return self.compiled(lambda *a: self.jax.vjp(network, *a[:4])[1](a[4]), *operands)

    def compiled(self, function, *operands):
        jax = self.jax
        operands = [jax.device_put(operand) for operand in operands]
        function = jax.jit(function).lower(*operands).compile()
        return lambda: jax.block_until_ready(function(*operands))


class Numba:
    """The recurrent networks; their products are those of SciPy's and NumPy's BLAS."""

    def __init__(self, threads):
        import numba
        import threadpoolctl

        self.limits = threadpoolctl.threadpool_limits(threads)
        self.numba = numba

    def attention_rnn(self, row, which, *operands):
        return self.network(attention_peers.numba_network(self.numba, row.window), which, operands)

    def gated_rnn(self, row, which, *operands):
        return self.network(gated_peers.numba_network(self.numba), which, operands)

    def network(self, network, which, operands):
        forward, bptt = network
        if which == "forward":
            return lambda: forward(*operands[:4])
        return lambda: bptt(*operands)


PEERS = {
    "fastconv": Fastconv,
    "reference": Reference,
    "torch": Torch,
    "jax": Jax,
    "numba": Numba,
    "onnxruntime": Onnxruntime,
    "openvino": Openvino,
    "ncnn": Ncnn,
    "mnn": Mnn,
}


def make(name, threads):
    """One of PEERS, `fastconv:` and an algorithm, or the fastconv built in that folder."""
    if os.path.isdir(name):
        sys.path.insert(0, name)
        return Fastconv(threads)
    library, *algorithm = name.split(":")
    return PEERS[library](threads, *algorithm)


def serve(connection, peer, threads):
    """Answer requests until the other end closes: a method of Worker and its arguments.

    The first answer, unasked, is the name of the package that is missing, or None.
    """
    os.dup2(2, 1)  # the table is the parent's: what an engine says goes where errors go
    try:
        worker = Worker(peer, threads)
    except ModuleNotFoundError as error:
        connection.send(error.name)
        return
    connection.send(None)
    while True:
        try:
            method, *arguments = connection.recv()
        except EOFError:
            worker.call = None  # before its peer
            return
        connection.send(getattr(worker, method)(*arguments))


class Worker:
    """One peer on its own cores, and the row it is busy with."""

    def __init__(self, peer, threads):
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        self.peer, self.threads = make(peer, threads), threads
        self.call = None

    def prepare(self, row, which, dtype):
        """Make `row` the one to be timed; False where the peer cannot do it."""
        function = getattr(self.peer, row.kind, None)
        self.call = function and function(row, which, *row.operands(dtype))
        if not self.call:
            return False
        self.call()  # pays for what the first call alone does
        self.calls, self.seconds = 1, 0.0
        while self.time() * self.calls < SAMPLE_SECONDS:
            self.calls *= 2
        return True

    def time(self):
        """One sample: seconds a call, the mean over as many calls as fill SAMPLE_SECONDS."""
        call = self.call
        if self.calls == 1:
            time.sleep(0.5)  # the other side may be giving gigabytes back, on our core
        if self.calls > 1 or self.seconds < 0.2:
            call()  # warms the caches that the other side has used meanwhile
        start = time.perf_counter()
        for _ in range(self.calls):
            call()
        self.seconds = (time.perf_counter() - start) / self.calls
        return self.seconds

    def results(self):
        """What the row computes, as NumPy arrays."""
        results = self.call()
        arrays = getattr(self.peer, "arrays", _arrays)
        return arrays(results)

    def exact(self, row, which):
        """The same by our direct algorithm in float64."""
        direct = Fastconv(self.threads, "direct")
        return _arrays(getattr(direct, row.kind)(row, which, *row.operands("float64"))())

    def scratch(self):
        """Bytes of scratch memory that one call of ours needs; None for anybody else's."""
        if not isinstance(self.peer, Fastconv):
            return None
        core = self.peer.fc._core
        core.clear_scratch()
        self.call()
        return core.clear_scratch()


def _arrays(results):
    return [np.asarray(a) for a in (results if isinstance(results, list | tuple) else [results])]
