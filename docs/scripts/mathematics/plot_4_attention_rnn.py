r"""
AttentionRNN: looking back through a softmax
============================================

In AttentionRNN(k) the new state is a mixture of the input and the last k states, weighted by how
well each answers its own query. The weights come from one softmax, so they are coupled: what makes
one larger makes all others smaller. That coupling is the term that is most often forgotten in its
derivative. This page derives it, shows what leaving it out costs, and takes the window to
infinity, where running sums make a step as cheap as if there were no past.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastconv as fc


def agree(a, b):
    """Raise an error unless a and b are the same to 1e-12."""
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


rng = np.random.default_rng(0)
T, n = 10, 4  # steps; numbers in an input and in a state

# %%
# AttentionRNN(2)
# ---------------
#
# What a step looks at is :math:`s_0 = x_t`, :math:`s_1 = h_{t-1}` and :math:`s_2 = h_{t-2}`. Each
# has matrices of its own that make a query, a key and a value of it:
#
# .. math::
#
#    & q_i = Q_i\, s_i, \qquad k_i = K_i\, s_i, \qquad v_i = V_i\, s_i \\
#    & w_i = q_i \cdot k_i, \qquad a = \operatorname{softmax}(w_0, w_1, w_2) \\
#    & h_t = \sum_{i=0}^{2} a_i\, v_i
#
# Before the start there are zero vectors: their score is 0 and their value is 0, but they take
# their share of the softmax.

x = rng.standard_normal((T, n))
Q, K, V = rng.standard_normal((3, 3, n, n)) / 2


def step(s):
    """h[t], and what it was made of, from s_0, s_1, ..."""
    q, k, v = (np.einsum("iab,ib->ia", matrices[: len(s)], s) for matrices in (Q, K, V))
    w = (q * k).sum(axis=1)
    a = np.exp(w) / np.exp(w).sum()
    return a @ v, a, q, k, v


def seen(h, t, k):
    """s_0 .. s_k at step t: the input, then the states before, newest first."""
    before = [h[t - i] if t >= i else np.zeros(n) for i in range(1, k + 1)]
    return np.array([x[t], *before])


h, weights = np.empty((T, n)), np.empty((T, 3))
for t in range(T):
    h[t], weights[t], *_ = step(seen(h, t, 2))

result, tape = fc.attention_rnn(x, Q, K, V, return_tape=True)
agree(result, h)
agree(fc.attention_weights(tape), weights)

# %%
# AttentionRNN(k) is the same with :math:`k + 1` matrices of each kind; the window is as long as the
# weights say. One more thing to see: the score is a quadratic form of one matrix,
# :math:`w_i = s_i^T Q_i^T K_i\, s_i = s_i^T M_i\, s_i`, so only :math:`M_i = Q_i^T K_i` counts,
# and of that only the symmetric part.

M = np.einsum("iba,ibc->iac", Q, K)
halves = (M + M.transpose(0, 2, 1)) / 2
eye = np.broadcast_to(np.eye(n), (3, n, n))
agree(fc.attention_rnn(x, eye, M, V), h)
agree(fc.attention_rnn(x, eye, halves, V), h)

# %%
# One step back
# -------------
#
# Three derivatives make up :math:`\partial h_t / \partial h_{t-i}`. The value:
# :math:`\partial v_i / \partial s_i = V_i`. The score, a product of two things that both depend on
# the state:
#
# .. math:: \frac{\partial w_i}{\partial s_i} = Q_i^T k_i + K_i^T q_i = (M_i + M_i^T)\, s_i
#
# And the softmax, whose every output depends on every score:
#
# .. math::
#
#    \frac{\partial a_j}{\partial w_i} = a_j\, (\delta_{ij} - a_i)
#    \quad\Longrightarrow\quad
#    \frac{\partial h_t}{\partial w_i} = \sum_j v_j\, \frac{\partial a_j}{\partial w_i}
#    = a_i v_i - a_i \sum_j a_j v_j = a_i\, (v_i - h_t)
#
# A score pulls the state from where it is *towards its value*. Together:
#
# .. math::
#
#    \frac{\partial h_t}{\partial h_{t-i}} = a_i V_i + a_i\, (v_i - h_t)\,
#    (Q_i^T k_i + K_i^T q_i)^T


def lag_jacobian(s, i):
    """dh[t] / ds_i."""
    h_t, a, q, k, v = step(s)
    of_w = Q[i].T @ k[i] + K[i].T @ q[i]
    return a[i] * V[i] + a[i] * np.outer(v[i] - h_t, of_w)


t = 6
s = seen(h, t, 2)
for i in range(3):
    agree(fc.jacobian.attention_rnn(x[t], h[:t], Q, K, V, wrt=i), lag_jacobian(s, i))

# %%
# What leaving the coupling out costs
# -----------------------------------
#
# It is tempting to treat :math:`a_i` as a function of :math:`w_i` alone. Then
# :math:`\partial a_i / \partial w_i = a_i (1 - a_i)` is all that is left, and
#
# .. math::
#
#    \frac{\partial h_t}{\partial h_{t-i}} \overset{?}{=}
#    a_i V_i + a_i\,(1 - a_i)\, v_i\, (Q_i^T k_i + K_i^T q_i)^T
#
# which says :math:`v_i - a_i v_i` where :math:`v_i - \sum_j a_j v_j` belongs. Finite differences
# decide:


def uncoupled(s, i):
    """The tempting formula."""
    _, a, q, k, v = step(s)
    return a[i] * V[i] + a[i] * (1 - a[i]) * np.outer(v[i], Q[i].T @ k[i] + K[i].T @ q[i])


def differences(s, i, e=1e-5):
    """dh[t] / ds_i by moving each entry of s_i up and down."""
    columns = []
    for j in range(n):
        up, down = s.copy(), s.copy()
        up[i, j] += e
        down[i, j] -= e
        columns.append((step(up)[0] - step(down)[0]) / (2 * e))
    return np.array(columns).T


figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
true = differences(s, 1)
pictures = {
    "finite differences": true,
    "with coupling": lag_jacobian(s, 1),
    "without": uncoupled(s, 1),
    "error without": uncoupled(s, 1) - true,
}
limit = max(np.abs(picture).max() for picture in pictures.values())
for ax, (name, picture) in zip(axes, pictures.items(), strict=True):
    ax.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_title(name, fontsize=10)
    ax.set_xticks([]), ax.set_yticks([])
figure.suptitle("dh[t] / dh[t-1], an entry a square", fontsize=10)
plt.show()

assert np.abs(lag_jacobian(s, 1) - true).max() < 1e-8

# %%
# How large is the error in general? Over a thousand random steps, relative to the true Jacobian:

errors = []
for _ in range(1000):
    random = rng.standard_normal((3, n))
    exact = lag_jacobian(random, 1)
    errors.append(np.linalg.norm(uncoupled(random, 1) - exact) / np.linalg.norm(exact))
print(f"median {np.median(errors):.2f}, nine in ten below {np.quantile(errors, 0.9):.2f}")
assert np.median(errors) > 0.1

# %%
# There is no small parameter here: the formula is wrong by a sizeable part of what it computes, and
# training with it climbs the wrong hill. It is right only where nothing else has a value.
#
# The total gradient over the window
# ----------------------------------
#
# A state is looked at by the next :math:`k` steps, so its total gradient collects from all of them:
#
# .. math::
#
#    g_r = \frac{\partial l}{\partial h_r} + \sum_{t=r+1}^{\min(T,\, r+k)}
#    \Bigl(\frac{\partial h_t}{\partial h_r}\Bigr)^{\!T} g_t

direct = rng.standard_normal((T, n))
g = direct.copy()
for t in reversed(range(T)):
    for i in (1, 2):
        if t >= i:
            g[t - i] += lag_jacobian(seen(h, t, 2), i).T @ g[t]

grads = fc.attention_rnn_backward(direct, tape)
agree(grads.x, [lag_jacobian(seen(h, t, 2), 0).T @ g[t] for t in range(T)])

# %%
# The matrices see the total gradient too. With
# :math:`dw_i = a_i\, (g_t \cdot v_i - g_t \cdot h_t)` and :math:`dv_i = a_i\, g_t`:
#
# .. math::
#
#    \frac{dl}{dV_i} = \sum_t dv_i\, s_i^T, \qquad
#    \frac{dl}{dQ_i} = \sum_t dw_i\, k_i\, s_i^T, \qquad
#    \frac{dl}{dK_i} = \sum_t dw_i\, q_i\, s_i^T

dQ, dK, dV = np.zeros((3, 3, n, n))
for t in range(T):
    s = seen(h, t, 2)
    h_t, a, q, k, v = step(s)
    dw = a * (v @ g[t] - h_t @ g[t])
    dV += np.einsum("i,b,ic->ibc", a, g[t], s)
    dQ += np.einsum("i,ib,ic->ibc", dw, k, s)
    dK += np.einsum("i,ib,ic->ibc", dw, q, s)
agree(grads.w_v, dV)
agree(grads.w_q, dQ)
agree(grads.w_k, dK)

# %%
# Weight sharing
# --------------
#
# One matrix of each kind for all :math:`i` is given as :math:`(n, n)`, with the window as a number.
# The equations stay; a weight that is used at several places collects the gradients of all of
# them:

q1, k1, v1 = Q[0], K[0], V[0]
repeated = [np.repeat(w[None], 3, axis=0) for w in (q1, k1, v1)]
shared_h, shared_tape = fc.attention_rnn(x, q1, k1, v1, window=2, return_tape=True)
separate_h, separate_tape = fc.attention_rnn(x, *repeated, return_tape=True)
agree(shared_h, separate_h)

shared = fc.attention_rnn_backward(direct, shared_tape)
separate = fc.attention_rnn_backward(direct, separate_tape)
for name in ("w_q", "w_k", "w_v"):
    agree(getattr(shared, name), getattr(separate, name).sum(axis=0))

# %%
# Sharing changes more than the number of weights. A state's score and value depend on that state
# and its matrices alone: with shared matrices they are the same whenever it is looked at, and need
# to be computed once in place of k times.
#
# AttentionRNN(infinity)
# ----------------------
#
# With shared matrices the window need not end: let a step look at :math:`x_t` and at *every* state
# before. Taken literally that is :math:`t` terms at step :math:`t`. But the sums over the past only
# grow by one term a step:
#
# .. math::
#
#    D_t = \sum_{j<t} e^{w(h_j)}, \quad N_t = \sum_{j<t} e^{w(h_j)}\, v(h_j), \qquad
#    h_t = \frac{e^{w(x_t)}\, v(x_t) + N_t}{e^{w(x_t)} + D_t}
#
# A running maximum :math:`\mu` keeps the exponentials from overflowing: all are stored divided by
# :math:`e^\mu`, and rescaled when :math:`\mu` grows. (This is the *online softmax*: M. Milakov and
# N. Gimelshein, `arXiv:1805.02867 <https://arxiv.org/abs/1805.02867>`_.)


def running(x):
    """AttentionRNN(infinity) with a constant number of operations a step."""

    def score(s):
        return (q1 @ s) @ (k1 @ s)

    mu, D, N = -np.inf, 0.0, np.zeros(n)
    states = []
    for x_t in x:
        top = max(mu, score(x_t))
        past, now = np.exp(mu - top), np.exp(score(x_t) - top)
        h_t = (now * (v1 @ x_t) + past * N) / (now + past * D)
        states.append(h_t)
        new = max(mu, score(h_t))
        D = np.exp(mu - new) * D + np.exp(score(h_t) - new)
        N = np.exp(mu - new) * N + np.exp(score(h_t) - new) * (v1 @ h_t)
        mu = new
    return np.array(states)


x_long = rng.standard_normal((60, n))
h_long, tape_long = fc.attention_rnn(x_long, q1, k1, v1, return_tape=True)
agree(h_long, running(x_long))
agree(h_long, fc.reference.attention_rnn(x_long, q1, k1, v1))  # which adds up all t terms

# %%
# Backward, the total gradient of a state collects from all later steps. In
#
# .. math::
#
#    g_r = \frac{\partial l}{\partial h_r} + \sum_{t > r} \Bigl(a_{t,r} V^T g_t +
#    a_{t,r}\,\bigl(v(h_r) - h_t\bigr) \cdot g_t\ (M + M^T)\, h_r\Bigr), \qquad
#    a_{t,r} = \frac{e^{w(h_r)}}{Z_t}
#
# the later steps enter through two running sums only,
# :math:`P = \sum_{t>r} g_t / Z_t` and :math:`R = \sum_{t>r} (g_t \cdot h_t) / Z_t`:
#
# .. math::
#
#    g_r = \frac{\partial l}{\partial h_r} + e^{w(h_r)} \Bigl( V^T P +
#    \bigl(P \cdot v(h_r) - R\bigr)\, (M + M^T)\, h_r \Bigr)

direct_long = rng.standard_normal((60, n))
M1 = q1.T @ k1
w_x = np.einsum("ta,ab,tb->t", x_long, M1, x_long)
w_h = np.einsum("ta,ab,tb->t", h_long, M1, h_long)
Z = np.exp(w_x) + np.concatenate([[0], np.cumsum(np.exp(w_h))[:-1]])
P, R = np.zeros(n), 0.0
dx = np.empty_like(x_long)
for t in reversed(range(60)):
    through_score = P @ (v1 @ h_long[t]) - R
    g_t = direct_long[t] + np.exp(w_h[t]) * (v1.T @ P + through_score * (M1 + M1.T) @ h_long[t])
    a_0 = np.exp(w_x[t]) / Z[t]
    dw = a_0 * g_t @ (v1 @ x_long[t] - h_long[t])
    dx[t] = a_0 * v1.T @ g_t + dw * (M1 + M1.T) @ x_long[t]
    P += g_t / Z[t]
    R += g_t @ h_long[t] / Z[t]
agree(fc.attention_rnn_backward(direct_long, tape_long).x, dx)

# %%
# The weights themselves need not be formed for any of this. Where one wants to look at them,
# `attention_weights` does it: row t is what step t attended to, the input first, then the states
# before it, newest first.

a = fc.attention_weights(tape_long)
agree(a.sum(axis=1), np.ones(60))
agree(a[:, 0], np.exp(w_x) / Z)

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
picture = ax.imshow(np.log10(a + 1e-4), aspect="auto", cmap="viridis", interpolation="none")
figure.colorbar(picture, label="log10 of the weight")
ax.set(xlabel="steps back (0: the input)", ylabel="step t", title="Attention, window infinite")
plt.show()

# %%
# The diagonals are single states that all later steps keep looking at: a state with a large score
# has it for ever, since the score depends on nothing but the state.
