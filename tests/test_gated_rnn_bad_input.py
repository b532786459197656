"""The gated RNN: what is wrong is said, by name, before anything is computed."""

import re

import numpy as np
import pytest

import fastconv as fc

X, W, W_H, H = np.ones((4, 3, 5)), np.ones((6, 5)), np.ones((6, 6)), np.ones((4, 3, 6))


def run(x=X, w_c=W, w_h=W_H, w_x=W, h0=None, **options):
    return fc.gated_rnn(x, w_c, w_h, w_x, h0, **options)


def step(x_t=X[0], h_prev=H[0], w_c=W, w_h=W_H, w_x=W, **biases):
    return fc.gated_rnn_step(x_t, h_prev, w_c, w_h, w_x, **biases)


def back(grad_h=H, grad_h_last=None, **operands):
    tape = run(return_tape=True, **operands)[1]
    return fc.gated_rnn_backward(grad_h, tape, grad_h_last=grad_h_last)


# fmt: off
CASES = [
    (lambda: run(x=np.ones(5)), ValueError, "x: expected (T, B, n) or, for one sequence"),
    (lambda: run(x=np.ones(5), batch_first=True), ValueError, "x: expected (B, T, n)"),
    (lambda: run(x=X * 1j), TypeError, "x: expected an array of float16"),
    (lambda: run(x=np.array(None)), TypeError, "x: expected an array of float16"),
    (lambda: run(x=[[1], [2, 3]]), ValueError, "x: expected an array"),
    (lambda: run(w_h=np.ones((6, 5))), ValueError, "w_h: expected (m, m), got shape (6, 5)"),
    (lambda: run(w_h=np.ones(6)), ValueError, "w_h: expected (m, m)"),
    (lambda: run(w_c=np.ones((6, 4))), ValueError, "w_c: expected (m, n) = (6, 5), from"),
    (lambda: run(w_x=np.ones((5, 6))), ValueError, "w_x: expected (m, n) = (6, 5)"),
    (lambda: run(w_x="weights"), TypeError, "w_x: expected an array"),
    (lambda: run(h0=np.ones(6)), ValueError, "h0: expected (B, m) = (3, 6), got shape (6,)"),
    (lambda: run(h0=np.ones((6, 3))), ValueError, "h0: expected (B, m) = (3, 6)"),
    (lambda: run(x=X[:, 0], h0=np.ones((1, 6))), ValueError, "h0: expected (m,) = (6,)"),
    (lambda: run(x=X[:, :1], h0=np.ones(6)), ValueError, "h0: expected (B, m) = (1, 6)"),
    (lambda: run(b_c=np.ones(5)), ValueError, "b_c: expected (m,) = (6,), got shape (5,)"),
    (lambda: run(b_x=np.ones((1, 6))), ValueError, "b_x: expected (m,) = (6,)"),
    (lambda: run(lengths=[1, 2]), ValueError, "lengths: expected (B,) = (3,), got shape (2,)"),
    (lambda: run(lengths=[1, 2, 5]), ValueError, "lengths: expected 0 to T = 4, got 5"),
    (lambda: run(lengths=np.array([1, -1, 2])), ValueError, "lengths: expected 0 to T = 4, got -1"),
    (lambda: run(lengths=[1.0, 2, 3]), TypeError, "lengths: expected integers"),
    (lambda: run(batch_first=1), TypeError, "batch_first: expected a bool"),
    (lambda: run(return_tape="yes"), TypeError, "return_tape: expected a bool"),
    (lambda: step(x_t=X), ValueError, "x_t: expected (B, n) or, for one"),
    (lambda: step(h_prev=H[0, 0]), ValueError, "h_prev: expected (B, m) = (3, 6), got shape (6,)"),
    (lambda: step(h_prev=None), TypeError, "h_prev: expected an array"),
    (lambda: step(x_t=X[0, 0], h_prev=H[0, :1]), ValueError, "h_prev: expected (m,) = (6,)"),
    (lambda: step(w_c=np.ones((6, 6))), ValueError, "w_c: expected (m, n) = (6, 5), from"),
    (lambda: step(b_c=1.0), ValueError, "b_c: expected (m,)"),
    (lambda: fc.gated_rnn_backward(H, None), TypeError, "tape: expected a GatedRNNTape"),
    (lambda: back(H[1:]), ValueError, "grad_h: expected h's shape (4, 3, 6), got shape (3, 3, 6)"),
    (lambda: back(H[:, 0]), ValueError, "grad_h: expected h's shape"),
    (lambda: back(H[:, :1], x=X[:, 0]), ValueError, "grad_h: expected h's shape (4, 6)"),
    (lambda: back(H * 1j), TypeError, "grad_h: expected"),
    (lambda: back(grad_h_last=H), ValueError, "grad_h_last: expected (B, m) = (3, 6)"),
    (lambda: back(H[:, :1], H[0, 0], x=X[:, :1]), ValueError, "grad_h_last: expected (B, m)"),
]
# fmt: on


@pytest.mark.parametrize("call, error, message", CASES)
def test_message(call, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        call()
