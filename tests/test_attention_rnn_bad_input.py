"""AttentionRNN: what is wrong is said, by name, before anything is computed."""

import re

import numpy as np
import pytest

import fastconv as fc

X, W, SHARED = np.ones((4, 3, 5)), np.ones((3, 5, 5)), np.ones((5, 5))


def run(x=X, w_q=W, w_k=W, w_v=W, h0=None, **options):
    return fc.attention_rnn(x, w_q, w_k, w_v, h0, **options)


def run_shared(**options):
    return run(w_q=SHARED, w_k=SHARED, w_v=SHARED, **options)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: run(x=np.ones(5)), ValueError, "x: expected (T, B, 5) or (T, 5), got shape (5,)"),
        (lambda: run(x=np.ones((4, 3, 6))), ValueError, "x: expected (T, B, 5)"),
        (lambda: run(x=np.ones((4, 3, 6)), batch_first=True), ValueError, "x: expected (B, T, 5)"),
        (lambda: run(x=X * 1j), TypeError, "x: expected an array of float16"),
        (lambda: run(x=[[1], [2, 3]]), ValueError, "x: expected an array"),
        (lambda: run(w_q=np.ones((3, 5, 4))), ValueError, "w_q: expected (n, n)"),
        (lambda: run(w_q=np.ones(5)), ValueError, "w_q: expected (n, n)"),
        (
            lambda: run(
                *[np.ones((0, 5, 5))] * 0,
                w_q=np.ones((0, 5, 5)),
                w_k=np.ones((0, 5, 5)),
                w_v=np.ones((0, 5, 5)),
            ),
            ValueError,
            "w_q: expected (k + 1, n, n)",
        ),
        (lambda: run(w_k=SHARED), ValueError, "w_k: expected the shape of w_q, (3, 5, 5)"),
        (lambda: run(w_v=np.ones((2, 5, 5))), ValueError, "w_v: expected the shape of w_q"),
        (lambda: run(w_v="weights"), TypeError, "w_v: expected an array"),
        (lambda: run(window=3), ValueError, "window: expected 2"),
        (lambda: run_shared(window=-1), ValueError, "window: expected at least 0, got -1"),
        (lambda: run_shared(window=1.5), TypeError, "window: expected an integer"),
        (lambda: run_shared(window=True), TypeError, "window: expected an integer"),
        (
            lambda: run(h0=np.ones((1, 3, 5))),
            ValueError,
            "h0: expected (2, 3, 5), got shape (1, 3, 5)",
        ),
        (lambda: run(h0=np.ones((2, 5))), ValueError, "h0: expected (2, 3, 5)"),
        (lambda: run_shared(h0=np.ones((2, 4, 5))), ValueError, "h0: expected (p, 3, 5)"),
        (lambda: run(x=X[:, 0], h0=np.ones((2, 1, 5))), ValueError, "h0: expected (2, 5)"),
        (lambda: run(lengths=[1, 2]), ValueError, "lengths: expected (B,) = (3,), got shape (2,)"),
        (lambda: run(lengths=[1, 2, 5]), ValueError, "lengths: expected 0 to T = 4, got 5"),
        (lambda: run(lengths=[1, 2, -1]), ValueError, "lengths: expected 0 to T = 4, got -1"),
        (lambda: run(lengths=[1.0, 2, 3]), TypeError, "lengths: expected integers"),
        (lambda: run(batch_first=1), TypeError, "batch_first: expected a bool"),
        (lambda: run(return_tape="yes"), TypeError, "return_tape: expected a bool"),
        (
            lambda: fc.attention_rnn_step(np.ones((3, 5, 1)), X, W, W, W),
            ValueError,
            "x_t: expected (B, 5)",
        ),
        (
            lambda: fc.attention_rnn_step(np.ones((2, 5)), X, W, W, W),
            ValueError,
            "history: expected (p, 2, 5)",
        ),
        (
            lambda: fc.attention_rnn_step(np.ones(5), X, W, W, W),
            ValueError,
            "history: expected (p, 5)",
        ),
        (
            lambda: fc.attention_rnn_backward(X, None),
            TypeError,
            "tape: expected an AttentionRNNTape",
        ),
        (
            lambda: fc.attention_rnn_backward(X, run_shared(return_tape=True)),
            TypeError,
            "tape: expected",
        ),
        (
            lambda: fc.attention_rnn_backward(X[1:], run(return_tape=True)[1]),
            ValueError,
            "grad_h: expected h's shape (4, 3, 5), got shape (3, 3, 5)",
        ),
        (
            lambda: fc.attention_rnn_backward(X, run(return_tape=True)[1], grad_h_last=X),
            ValueError,
            "grad_h_last: expected shape (3, 5)",
        ),
        (
            lambda: fc.attention_rnn_backward(X * 1j, run(return_tape=True)[1]),
            TypeError,
            "grad_h: expected",
        ),
        (lambda: fc.attention_weights(X), TypeError, "tape: expected"),
    ],
)
def test_message(call, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        call()


def test_window_that_no_memory_holds():
    with pytest.raises(MemoryError):
        run_shared(window=2**31 - 1, return_tape=True, x=np.ones((1000, 1000, 5)))
