"""AttentionRNN as users of other libraries write it: the equation, step by step.

Separate matrices and a window of k: a buffer of the last k states moves along, and each step is
three batched products over the k + 1 states in it. An infinite window: a buffer of all T states,
those still to come masked out. Gradients by the library's automatic differentiation.
"""


def jax_network(jax, window):
    """x, w_q, w_k, w_v -> h, for jax.jit."""
    jnp = jax.numpy

    def attend(states, w_q, w_k, w_v, mask):
        """states (k + 1, B, n) -> h (B, n)"""
        one = "ibm,nm->ibn" if w_q.ndim == 2 else "ibm,inm->ibn"
        q, k, v = (jnp.einsum(one, states, w) for w in (w_q, w_k, w_v))
        scores = jnp.sum(q * k, axis=-1)
        a = jax.nn.softmax(scores if mask is None else jnp.where(mask, scores, -jnp.inf), axis=0)
        return jnp.sum(a[..., None] * v, axis=0)

    def finite(x, w_q, w_k, w_v):
        def step(before, x_t):  # before: (k, B, n), newest first
            states = jnp.concatenate([x_t[None], before])
            h = attend(states, w_q, w_k, w_v, None)
            return jnp.concatenate([h[None], before[:-1]]), h

        return jax.lax.scan(step, jnp.zeros((window, *x.shape[1:]), x.dtype), x)[1]

    def infinite(x, w_q, w_k, w_v):
        steps = len(x)

        def step(before, t_and_x):  # before: (T, B, n), oldest first
            t, x_t = t_and_x
            states = jnp.concatenate([x_t[None], before])
            mask = (jnp.arange(steps + 1) <= t)[:, None]
            h = attend(states, w_q, w_k, w_v, mask)
            return before.at[t].set(h), h

        return jax.lax.scan(step, jnp.zeros_like(x), (jnp.arange(steps), x))[1]

    return infinite if window is None else finite


def torch_network(torch, window):
    """x, w_q, w_k, w_v -> h"""

    def network(x, w_q, w_k, w_v):
        before = [] if window is None else [torch.zeros_like(x[0])] * window  # newest first
        result = []
        for x_t in x:
            states = torch.stack([x_t, *before])
            q, k, v = (states @ w.mT for w in (w_q, w_k, w_v))
            a = torch.softmax((q * k).sum(-1), dim=0)
            h = (a[..., None] * v).sum(0)
            result.append(h)
            before = [h, *before][:window]
        return torch.stack(result)

    return network
