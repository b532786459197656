"""AttentionRNN as a careful user of another library writes it; gradients by the library itself.

Separate matrices: a buffer of the last k states moves along, and each step is three batched
products over the k + 1 states in it. Shared matrices: a state's score and value are computed once
and kept in the buffer in its place; with an infinite window that has room for all T states, those
still to come masked out.
"""


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
