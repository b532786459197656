"""The gated RNN as users of other libraries write it: the products with x for all steps at once,
then the recurrence step by step. Gradients by the library's automatic differentiation; by hand
for Numba.
"""

import numpy as np


def jax_network(jax):
    """x, w_c, w_h, w_x -> h, for jax.jit."""

    def network(x, w_c, w_h, w_x):
        def step(h, projected):
            s, u = projected
            c = jax.nn.sigmoid(s + h @ w_h.T)
            h = c * h + (1 - c) * u
            return h, h

        start = jax.numpy.zeros((x.shape[1], len(w_h)), x.dtype)
        return jax.lax.scan(step, start, (x @ w_c.T, x @ w_x.T))[1]

    return network


def torch_network(torch):
    """x, w_c, w_h, w_x -> h"""

    def network(x, w_c, w_h, w_x):
        s, u = x @ w_c.T, x @ w_x.T
        h = torch.zeros_like(s[0])
        result = []
        for s_t, u_t in zip(s, u, strict=True):
            c = torch.sigmoid(s_t + h @ w_h.T)
            h = c * h + (1 - c) * u_t
            result.append(h)
        return torch.stack(result)

    return network


def numba_network(numba):
    """(forward, bptt): what a NumPy user compiles."""
    compiled = numba.njit(fastmath=True, error_model="numpy")

    @compiled
    def run(s, u, w_h_transposed, c):
        """All states; the gates stay in c."""
        T, B, m = s.shape
        h, before = np.empty_like(s), np.zeros_like(s[0])
        for t in range(T):
            product = np.dot(before, w_h_transposed)
            for b in range(B):
                for j in range(m):
                    gate = 1 / (1 + np.exp(-(s[t, b, j] + product[b, j])))
                    c[t, b, j] = gate
                    h[t, b, j] = gate * before[b, j] + (1 - gate) * u[t, b, j]
            before = h[t]
        return h

    @compiled
    def run_back(grad_h, w_h, c, u, before, ds, du):
        T, B, m = grad_h.shape
        carry = np.zeros_like(grad_h[0])
        for t in range(T - 1, -1, -1):
            for b in range(B):
                for j in range(m):
                    g, gate = grad_h[t, b, j] + carry[b, j], c[t, b, j]
                    du[t, b, j] = g * (1 - gate)
                    ds[t, b, j] = du[t, b, j] * gate * (before[t, b, j] - u[t, b, j])
                    carry[b, j] = g * gate
            carry += np.dot(ds[t], w_h)

    def rows(a):
        return a.reshape(-1, a.shape[-1])

    def forward(x, w_c, w_h, w_x):
        s = x @ w_c.T
        return run(s, x @ w_x.T, w_h.T.copy(), np.empty_like(s))

    def bptt(x, w_c, w_h, w_x, grad_h):
        s, u = x @ w_c.T, x @ w_x.T
        c = np.empty_like(s)
        h = run(s, u, w_h.T.copy(), c)
        before = np.concatenate([np.zeros_like(h[:1]), h[:-1]])
        ds, du = np.empty_like(h), np.empty_like(h)
        run_back(grad_h, w_h, c, u, before, ds, du)
        return (
            ds @ w_c + du @ w_x,
            rows(ds).T @ rows(x),
            rows(ds).T @ rows(before),
            rows(du).T @ rows(x),
        )

    return forward, bptt
