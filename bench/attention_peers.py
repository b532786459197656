"""AttentionRNN as a careful user of another library writes it; gradients by the library itself, by
hand for Numba.

Separate matrices: a buffer of the last k states moves along, and each step is three batched
products over the k + 1 states in it. Shared matrices: a state's score and value are computed once
and kept in the buffer in its place; with an infinite window that has room for all T states, those
still to come masked out. With Numba every state's scores and values, for all i, are one product
when it is born.
"""

import numpy as np


def jax_network(jax, window):
    """x, w_q, w_k, w_v -> h, for jax.jit."""
    jnp = jax.numpy

    def products(s, w_q, w_k, w_v):
        """Scores (..., B) and values (..., B, n) of states s (..., B, n)."""
        q, k, v = (s @ jnp.swapaxes(w, -1, -2) for w in (w_q, w_k, w_v))
        return jnp.sum(q * k, axis=-1), v

    def mixture(scores, values):
        a = jax.nn.softmax(scores, axis=0)
        return jnp.sum(a[..., None] * values, axis=0)

    def separate(x, *weights):
        def step(before, x_t):  # before: (k, B, n), newest first
            states = jnp.concatenate([x_t[None], before])
            h = mixture(*products(states, *weights))
            return jnp.concatenate([h[None], before[:-1]]), h

        return jax.lax.scan(step, jnp.zeros((window, *x.shape[1:]), x.dtype), x)[1]

    def shared(x, *weights):
        # The buffer: scores (k, B), values (k, B, n). Slot t % k is that of step t; zeros before
        # the start take part with score 0, but where the window is infinite they are masked out.
        slots = len(x) if window is None else window
        start = 0.0 if window is not None else -jnp.inf
        scores = jnp.full((slots, x.shape[1]), start, x.dtype)
        values = jnp.zeros((slots, *x.shape[1:]), x.dtype)

        def step(before, now):
            (t, w_x, v_x), (scores, values) = now, before
            h = mixture(jnp.concatenate([w_x[None], scores]), jnp.concatenate([v_x[None], values]))
            w_h, v_h = products(h, *weights)
            return (scores.at[t % slots].set(w_h), values.at[t % slots].set(v_h)), h

        of_x = products(x, *weights)
        return jax.lax.scan(step, (scores, values), (jnp.arange(len(x)), *of_x))[1]

    return lambda x, *weights: (shared if weights[0].ndim == 2 else separate)(x, *weights)


def torch_network(torch, window):
    """x, w_q, w_k, w_v -> h"""

    def products(s, w_q, w_k, w_v):
        q, k, v = (s @ w.mT for w in (w_q, w_k, w_v))
        return (q * k).sum(-1), v

    def mixture(scores, values):
        return (torch.softmax(scores, dim=0)[..., None] * values).sum(0)

    def separate(x, *weights):
        before, result = [torch.zeros_like(x[0])] * window, []  # newest first
        for x_t in x:
            h = mixture(*products(torch.stack([x_t, *before]), *weights))
            result.append(h)
            before = [h, *before][:window]
        return torch.stack(result)

    def shared(x, *weights):
        zero = torch.zeros_like(x[0])
        scores, values = [[] if window is None else [z] * window for z in (zero[:, 0], zero)]
        result = []
        for w_x, v_x in zip(*products(x, *weights), strict=True):
            h = mixture(torch.stack([w_x, *scores]), torch.stack([v_x, *values]))
            result.append(h)
            w_h, v_h = products(h, *weights)
            scores, values = [w_h, *scores][:window], [v_h, *values][:window]
        return torch.stack(result)

    return lambda x, *weights: (shared if weights[0].ndim == 2 else separate)(x, *weights)


def numba_network(numba, window):
    """(forward, bptt): what a NumPy user compiles."""
    compiled = numba.njit(fastmath=True, error_model="numpy")

    @compiled
    def run(w_x, v_x, weights, a, products):
        """All states from x's scores and values. The attention weights stay in a (T, B, k + 1), the
        states' q, k and v in products (T, B, 3, matrices, n)."""
        T, B, matrices, n = len(v_x), v_x.shape[1], products.shape[3], v_x.shape[2]
        h, transposed = v_x.copy(), weights.T.copy()
        scores = np.empty((T, B, matrices), v_x.dtype)
        for t in range(T):
            for b in range(B):
                reach = min(t, a.shape[2] - 1)
                e = a[t, b, : 1 + reach] if window is None else a[t, b]
                e[0], e[1 + reach :] = w_x[t, b], 0
                for i in range(1, 1 + reach):
                    e[i] = scores[t - i, b, min(i, matrices) - 1]
                most, total = e.max(), 0
                for i in range(len(e)):
                    e[i] = np.exp(e[i] - most)
                    total += e[i]
                e /= total
                for j in range(n):
                    h[t, b, j] *= e[0]
                for i in range(1, 1 + reach):
                    for j in range(n):
                        h[t, b, j] += e[i] * products[t - i, b, 2, min(i, matrices) - 1, j]
            products[t] = np.dot(h[t], transposed).reshape(products[t].shape)
            for b in range(B):
                for i in range(matrices):
                    scores[t, b, i] = np.dot(products[t, b, 0, i], products[t, b, 1, i])
        return h

    @compiled
    def run_back(grad_h, h, v_x, weights, a, products, dw_x, dv_x):
        """The gradients of products; those of x's scores and values in dw_x, dv_x."""
        T, B, n = h.shape
        back = np.zeros_like(products)
        for t in range(T - 1, -1, -1):
            g = grad_h[t] + np.dot(back[t].reshape(B, -1), weights)
            for b in range(B):
                r = np.dot(g[b], h[t, b])
                dw_x[t, b] = a[t, b, 0] * (np.dot(g[b], v_x[t, b]) - r)
                dv_x[t, b] = a[t, b, 0] * g[b]
                for i in range(1, 1 + min(t, a.shape[2] - 1)):
                    at, of, dw = t - i, min(i, products.shape[3]) - 1, -r
                    for j in range(n):
                        dw += g[b, j] * products[at, b, 2, of, j]
                    dw *= a[t, b, i]
                    for j in range(n):
                        back[at, b, 0, of, j] += dw * products[at, b, 1, of, j]
                        back[at, b, 1, of, j] += dw * products[at, b, 0, of, j]
                        back[at, b, 2, of, j] += a[t, b, i] * g[b, j]
        return back

    def rows(a):
        return a.reshape(len(a) * a.shape[1], -1)

    def states(x, *matrices):
        """x's q, k and v, then what run takes, and h."""
        T, B, n = x.shape
        first = [w if w.ndim == 2 else w[0] for w in matrices]
        weights = np.stack([w[None] if w.ndim == 2 else w[1:] for w in matrices])
        q, k, v = (x @ w.T for w in first)
        a = np.empty((T, B, 1 + (T if window is None else window)), x.dtype)
        products = np.empty((T, B, *weights.shape[:3]), x.dtype)
        weights = weights.reshape(-1, n)
        h = run((q * k).sum(-1), v, weights, a, products)
        return first, q, k, v, weights, a, products, h

    def bptt(x, *operands):
        *matrices, grad_h = operands
        first, q, k, v, weights, a, products, h = states(x, *matrices)
        dw, dv = np.empty_like(q[..., :1]), np.empty_like(v)
        back = run_back(grad_h, h, v, weights, a, products, dw[..., 0], dv)
        of_x = [dw * k, dw * q, dv]
        dx = sum(d @ w for d, w in zip(of_x, first, strict=True))
        of_first = [rows(d).T @ rows(x) for d in of_x]
        of_states = (rows(back).T @ rows(h)).reshape(3, -1, *first[0].shape)
        if matrices[0].ndim == 2:
            return dx, *(d + e[0] for d, e in zip(of_first, of_states, strict=True))
        return dx, *(np.stack([d, *e]) for d, e in zip(of_first, of_states, strict=True))

    return lambda *operands: states(*operands)[-1], bptt
