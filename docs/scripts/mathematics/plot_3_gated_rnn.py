r"""
The gated network, back through time
====================================

A network with one gate is enough to meet everything that makes recurrent networks hard to train:
a state that enters its own successor in two ways, gradients that travel along every path through
time, and the question which gradient, the direct or the total one, belongs in which formula. Here
each derivative is written out and compared with the library.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastconv as fc


def agree(a, b):
    """Raise an error unless a and b are the same to 1e-12."""
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


rng = np.random.default_rng(0)
T, n, m = 12, 3, 4  # steps, inputs, states; one sequence
x = rng.standard_normal((T, n))
W_c, W_x = rng.standard_normal((2, m, n))
W_h = rng.standard_normal((m, m))
b_c, b_x, h0 = rng.standard_normal((3, m))
biases = {"b_c": b_c, "b_x": b_x}

# %%
# The equations
# -------------
#
# .. math::
#
#    s_t &= W_c\, x_t + W_h\, h_{t-1} + b_c \\
#    c_t &= \sigma(s_t) = \frac{1}{1 + e^{-s_t}} \\
#    u_t &= W_x\, x_t + b_x \\
#    h_t &= c_t \odot h_{t-1} + (1 - c_t) \odot u_t
#
# The gate :math:`c_t` decides for each state how much of the old value stays and how much of the
# candidate :math:`u_t` takes its place; :math:`\odot` multiplies entry by entry. It is the update
# gate of K. Cho et al., `Learning phrase representations using RNN encoder-decoder
# <https://arxiv.org/abs/1406.1078>`_, with a candidate that is linear and does not look at the
# state.


def step(x_t, before):
    """c[t], u[t] and h[t]."""
    c_t = 1 / (1 + np.exp(-(W_c @ x_t + W_h @ before + b_c)))
    u_t = W_x @ x_t + b_x
    return c_t, u_t, c_t * before + (1 - c_t) * u_t


c, u, h = np.empty((3, T, m))
for t in range(T):
    c[t], u[t], h[t] = step(x[t], h[t - 1] if t else h0)
h_prev = np.concatenate([h0[None], h[:-1]])  # h[t-1], for each t

result, tape = fc.gated_rnn(x, W_c, W_h, W_x, h0, **biases, return_tape=True)
agree(result, h)

# %%
# One step back
# -------------
#
# The sigmoid's derivative is :math:`\sigma' = \sigma\,(1 - \sigma)`, so
#
# .. math:: \frac{\partial c_t}{\partial h_{t-1}} = \operatorname{diag}\bigl(c_t (1 - c_t)\bigr)\, W_h
#
# The state before enters :math:`h_t` twice: directly, multiplied by the gate, and through the
# gate, which shifts weight between :math:`h_{t-1}` and :math:`u_t`. The product rule gives both:
#
# .. math::
#
#    \frac{\partial h_t}{\partial h_{t-1}} = \operatorname{diag}(c_t) +
#    \operatorname{diag}(h_{t-1} - u_t)\, \frac{\partial c_t}{\partial h_{t-1}}

dc_dh = (c * (1 - c))[:, :, None] * W_h
dh_dh = np.eye(m) * c[:, None, :] + (h_prev - u)[:, :, None] * dc_dh
for t in range(T):
    of_h, of_c = fc.jacobian.gated_rnn(x[t], h_prev[t], W_c, W_h, W_x, **biases)
    agree(of_c, dc_dh[t])
    agree(of_h, dh_dh[t])

# %%
# Without the first term this would be an ordinary recurrent network, whose Jacobian is a matrix
# product through and through. The gate's diagonal is a road past it: where :math:`c_t` is near 1,
# the state and its gradient pass unchanged.
#
# Direct and total gradient
# -------------------------
#
# A loss may look at every state. Two gradients with respect to :math:`h_t` must be told apart:
#
# - the **direct** one, :math:`\partial l / \partial h_t` with all other states held fixed: what the
#   loss itself says about this state;
# - the **total** one, :math:`g_t = dl / dh_t`, which also counts what :math:`h_t` does to all later
#   states.
#
# The total gradient is built up from the end:
#
# .. math::
#
#    g_T = \frac{\partial l}{\partial h_T}, \qquad
#    g_{t-1} = \frac{\partial l}{\partial h_{t-1}} +
#    \Bigl(\frac{\partial h_t}{\partial h_{t-1}}\Bigr)^{\!T} g_t

direct = rng.standard_normal((T, m))  # of some loss
g = direct.copy()
for t in reversed(range(1, T)):
    g[t - 1] += dh_dh[t].T @ g[t]

grads = fc.gated_rnn_backward(direct, tape)
agree(grads.h0, dh_dh[0].T @ g[0])

# %%
# The gradient of W_x, twice
# --------------------------
#
# **Unrolled.** The weight :math:`W_x` acts at every step. Let :math:`K_t = dh_t / dW_x` be the
# derivative of a state with respect to the weight at *all* steps up to :math:`t`. It obeys a
# recursion: this step's own effect, and what earlier steps' effects have become,
#
# .. math::
#
#    K_t = \frac{\partial h_t}{\partial h_{t-1}}\, K_{t-1} + B_t, \qquad
#    B_t = \frac{\partial h_t}{\partial W_x}\Big|_{h_{t-1}}, \qquad
#    (B_t)_{i,jk} = \delta_{ij}\,(1 - c_t)_i\, (x_t)_k
#
# Written as a sum over all pairs of a step that acts and a state that the loss looks at, it is
#
# .. math::
#
#    \frac{dl}{dW_x} = \sum_{t} \frac{\partial l}{\partial h_t}\, K_t =
#    \sum_{t} \frac{\partial l}{\partial h_t} \sum_{r \le t}
#    \Bigl(\prod_{q=r+1}^{t} \frac{\partial h_q}{\partial h_{q-1}}\Bigr) B_r

B = np.einsum("ij,ti,tk->tijk", np.eye(m), 1 - c, x)
K = np.zeros((m, m, n))
unrolled, twice = np.zeros((2, m, n))
for t in range(T):
    K = np.einsum("ij,jkl->ikl", dh_dh[t], K) + B[t]
    unrolled += np.einsum("i,ikl->kl", direct[t], K)
    twice += np.einsum("i,ikl->kl", g[t], K)  # wrong, see below
agree(grads.w_x, unrolled)

# %%
# **Back through time** (P. J. Werbos, "Backpropagation through time: what it does and how to do
# it", *Proceedings of the IEEE* 78, 1990). Sum the same terms in the other order, over the step
# that acts: all that comes after it is in the total gradient already, so its own effect is all
# that is left to multiply by.
#
# .. math:: \frac{dl}{dW_x} = \sum_{t} g_t\, B_t = \sum_{t} \bigl(g_t \odot (1 - c_t)\bigr)\, x_t^T

agree(grads.w_x, (g * (1 - c)).T @ x)

# %%
# So which gradient belongs in the formula? **The direct one with the total derivative** :math:`K_t`,
# **or the total one with the direct derivative** :math:`B_t`. Both are right. The total gradient
# beside the total derivative counts every path once for each state that it passes through, and is
# wrong by far:

off = np.abs(twice - grads.w_x).max() / np.abs(grads.w_x).max()
print(f"off by {off:.1f} times the largest entry")
assert off > 0.5

# %%
# Why does everyone go backward? :math:`K_t` has :math:`m \cdot m n` numbers and takes
# :math:`m^3 n` products a step; :math:`g_t` has :math:`m` numbers and takes :math:`m^2`. (The
# forward recursion is *real-time recurrent learning*: R. J. Williams and D. Zipser, *Neural
# Computation* 1, 1989. It needs no tape, and nothing has to end before it can learn.)
#
# All gradients
# -------------
#
# Split the step's derivative by the way that it takes: through the gate's argument :math:`s_t`, or
# through the candidate :math:`u_t`.
#
# .. math::
#
#    ds_t = g_t \odot (h_{t-1} - u_t) \odot c_t \odot (1 - c_t), \qquad
#    du_t = g_t \odot (1 - c_t)
#
# Each operand of :math:`s_t` and :math:`u_t` then gets its share:

ds = g * (h_prev - u) * c * (1 - c)
du = g * (1 - c)
agree(grads.w_c, ds.T @ x)
agree(grads.w_h, ds.T @ h_prev)
agree(grads.w_x, du.T @ x)
agree(grads.b_c, ds.sum(axis=0))
agree(grads.b_x, du.sum(axis=0))
agree(grads.x, ds @ W_c + du @ W_x)

# %%
# Only :math:`g_{t-1} = \partial l/\partial h_{t-1} + c_t \odot g_t + W_h^T ds_t` must wait for the
# step after it. Everything else waits until the loop is over, and is one matrix product over all
# steps: that is what makes the backward pass fast.
#
# And what if one would rather not trust any of this? Move one weight:

e = 1e-6
moved = [W_x.copy(), W_x.copy()]
moved[0][1, 2] += e
moved[1][1, 2] -= e
ends = [(direct * fc.gated_rnn(x, W_c, W_h, w, h0, **biases)).sum() for w in moved]
assert abs((ends[0] - ends[1]) / (2 * e) - grads.w_x[1, 2]) < 1e-7

# %%
# What arrives
# ------------
#
# A loss at the end alone reaches :math:`h_t` through the product of all Jacobians between. Its
# norm decides whether the network can learn from what happened at :math:`t`. `gradient_flow`
# follows its logarithm, which stays exact where the product itself would under- or overflow.
#
# .. math::
#
#    \frac{dh_T}{dh_t} = \frac{\partial h_T}{\partial h_{T-1}} \cdots
#    \frac{\partial h_{t+1}}{\partial h_t}

product = np.eye(m)
log_norm = np.zeros(T)
for t in reversed(range(T - 1)):
    product = product @ dh_dh[t + 1]
    log_norm[t] = np.log2(np.linalg.norm(product, 2))
agree(fc.gradient_flow(tape).log_norm, log_norm)

# %%
# The gate's bias sets how much of it is left. With :math:`b_c = 0` the gate stands at one half and
# keeps a state for a step or two; with :math:`b_c = 4` it stands at 0.98, and a gradient reaches
# back for fifty steps. With larger weights :math:`W_h` the second term of the Jacobian takes over,
# and the gradient grows on its way. (With larger ones still the gates are stuck at 0 or 1, where
# their derivative is 0, and the second term is gone again.)

T = 100
x_long = rng.standard_normal((T, n))
figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
verdicts = []
for bias, scale in ((0.0, 0.5), (2.0, 0.5), (4.0, 0.5), (4.0, 4.0)):
    b = np.full(m, bias)
    _, run = fc.gated_rnn(x_long, W_c, scale * W_h, W_x, b_c=b, return_tape=True)
    flow = fc.gradient_flow(run)
    verdicts.append(flow.verdict)
    label = f"gate bias {bias:.0f}, W_h times {scale}: {flow.verdict}"
    ax.plot(np.arange(T)[::-1], flow.log_norm, label=label)
ax.set(xlabel="steps back in time", ylabel="log2 of the norm")
ax.set_title("What of a gradient arrives")
ax.legend(fontsize=8)
plt.show()

assert verdicts == ["vanishing", "vanishing", "stable", "exploding"]
