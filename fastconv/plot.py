"""Pictures of what training and gradients do, on matplotlib: the extra `plot`.

Not imported with fastconv: say `from fastconv import plot`. matplotlib is imported when the first
picture is drawn. Every function draws into the axes that it is given and returns them, so titles,
limits and legends remain yours to change.
"""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike

from .gated_rnn import gated_rnn
from .gradient_flow import SLOPE, GradientFlow
from .operands import Array, as_array, integer, kind, wrong_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["STYLE", "attention_weights", "gradient_flow", "jacobian", "loss_curve"]

# Blue, vermilion, green, purple, sky blue, orange and grey of M. Okabe and K. Ito, "Color universal
# design" (2008): told apart whatever colours an eye can see.
STYLE: Final[dict[str, Any]] = {
    "axes.prop_cycle": "cycler('color', ['0072B2', 'D55E00', '009E73', 'CC79A7', '56B4E9',"
    " 'E69F00', '595959'])",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "image.cmap": "viridis",
    "legend.frameon": False,
}
"""The look of the gallery's pictures, for `matplotlib.pyplot.style.use`."""


def loss_curve(
    loss: ArrayLike,
    *,
    smoothing: float = 20,
    classes: int | None = None,
    label: str | None = None,
    color: Any = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the loss of each training step, and a smooth curve through it.

    Parameters
    ----------
    loss : array_like, shape (steps,)
        One number a step. What is not finite is left out of both curves.
    smoothing : float
        The smooth curve is the mean of the steps so far, weighted by (1 - 1 / smoothing) to the
        power of their age: about that many steps count. 1 draws no smooth curve.
    classes : int, optional
        Draws also what guessing among so many classes costs, their logarithm.
    label : str, optional
        For the legend.
    color
        A colour as matplotlib knows it; by default the next one of the axes.
    ax : matplotlib Axes, optional
        Where to draw; by default in a figure of its own.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        If there is no matplotlib.
    TypeError
        If `loss` holds no real numbers, or an argument has the wrong type.
    ValueError
        If `loss` is empty or has not one axis, or `smoothing` or `classes` is less than 1.

    Examples
    --------
    >>> from fastconv import plot
    >>> ax = plot.loss_curve([1.4, 1.3, 0.9, 1.1, 0.5], smoothing=2, classes=4)
    >>> [line.get_label() for line in ax.get_lines() if line.get_label()[0] != "_"]
    ['guessing: log 4']
    """
    values = as_array("loss", loss)
    if values.ndim != 1 or not values.size:
        wrong_shape("loss", "(steps,), at least one", values)
    if isinstance(smoothing, bool) or not isinstance(smoothing, (int, float, np.number)):
        raise TypeError(f"smoothing: expected a number, got {kind(smoothing)}")
    if not 1 <= smoothing < np.inf:
        raise ValueError(f"smoothing: expected a finite number of at least 1, got {smoothing}")
    if classes is not None:
        classes = integer("classes", classes, minimum=1)
    ax = _axes(ax)
    values = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    step = np.arange(1, len(values) + 1)
    if smoothing > 1:
        (faint,) = ax.plot(step, values, color=color, lw=0.6, alpha=0.35)
        ax.plot(step, _smooth(values, float(smoothing)), color=faint.get_color(), label=label)
    else:
        ax.plot(step, values, color=color, lw=1, label=label)
    if classes is not None:
        ax.axhline(np.log(classes), color="0.4", ls=":", lw=1, label=f"guessing: log {classes}")
    ax.set(xlabel="training step", ylabel="loss (nats)")
    if label is not None or classes is not None:
        ax.legend()
    return ax


def _smooth(values: Array, smoothing: float) -> Array:
    """The exponential mean is a gated RNN whose gate stands still. Its second state counts what
    the first has seen: their quotient knows nothing of the zero at the start, nor of NaN."""
    there = np.isfinite(values)
    x = np.stack([np.where(there, values, 0.0), there], axis=1)
    zero, gate = np.zeros((2, 2)), np.full(2, np.log(smoothing - 1))  # sigmoid: 1 - 1 / smoothing
    total, weight = gated_rnn(x, zero, zero, np.eye(2), b_c=gate).T
    result: Array = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return result


def gradient_flow(
    flow: GradientFlow,
    *,
    label: str | None = None,
    color: Any = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how much of a gradient at the last state arrives at each earlier one.

    The logarithm of the norm over the steps back in time T - t; a straight line is exponential
    decay or growth. The grey wedge holds the slopes that `fastconv.gradient_flow` calls stable.

    Parameters
    ----------
    flow : GradientFlow
        From `fastconv.gradient_flow`. Of several sequences each gets a thin line, and their
        median a thick one.
    label : str, optional
        For the legend, which adds the verdict.
    color
        A colour as matplotlib knows it; by default the next one of the axes.
    ax : matplotlib Axes, optional
        Where to draw; by default in a figure of its own.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        If there is no matplotlib.
    TypeError
        If `flow` is no GradientFlow.
    ValueError
        If it has no steps.

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> from fastconv import plot
    >>> zero = [[0.0]]
    >>> h, tape = fc.gated_rnn(np.ones((50, 1)), zero, zero, zero, return_tape=True)
    >>> ax = plot.gradient_flow(fc.gradient_flow(tape), label="gate at one half")
    >>> ax.get_legend().get_texts()[0].get_text()
    'gate at one half: vanishing'
    """
    if not isinstance(flow, GradientFlow):
        raise TypeError(f"flow: expected a GradientFlow of gradient_flow, got {kind(flow)}")
    if not flow.log_norm.size:
        wrong_shape("flow", "at least one step of one sequence", flow.log_norm)
    ax = _axes(ax)
    log_norm = flow.log_norm.reshape(len(flow.log_norm), -1)
    verdicts, count = np.unique(flow.verdict, return_counts=True)
    back = np.full(log_norm.shape, np.nan)  # row d: T - t = d, of each sequence's own T
    for b, column in enumerate(log_norm.T):
        past = np.flatnonzero(column != -np.inf)  # behind the end stands -inf, at the end 0
        own = column[: past[-1] + 1][::-1] if past.size else column[:0]
        back[: len(own), b] = np.where(np.isfinite(own), own, np.nan)
    steps = np.arange(len(back))
    (line,) = ax.plot(steps, _median(back), color=color, zorder=3)
    if back.shape[1] > 1:
        ax.plot(steps, back, color=line.get_color(), lw=0.5, alpha=0.35)
    verdict = (
        str(verdicts[0])
        if len(verdicts) == 1
        else ", ".join(f"{n} {v}" for v, n in zip(verdicts, count, strict=True))
    )
    line.set_label(verdict if label is None else f"{label}: {verdict}")
    if not any(patch.get_gid() == "stable" for patch in ax.collections):
        far = np.array([0, max(len(back) - 1, 1)])
        ax.fill_between(far, -SLOPE * far, SLOPE * far, color="0.88", lw=0, gid="stable", zorder=0)
    ax.set(xlabel="steps back in time, T - t", ylabel="log2 of the norm of d h[T] / d h[t]")
    ax.legend()
    return ax


def _median(back: Array) -> Array:
    """Over each row, of what is there; NaN where nothing is."""
    some = ~np.isnan(back).all(axis=1)
    median = np.full(len(back), np.nan)
    median[some] = np.nanmedian(back[some], axis=1)
    return median


def attention_weights(weights: ArrayLike, *, ax: "Axes | None" = None) -> "Axes":
    """Draw how much each step attends to what, as a heat map.

    Time runs to the right, the state's age downwards: a state that many steps attend to is a
    diagonal. Where there is nothing to attend to, before the start of an infinite window or past
    the end of a sequence, it is grey.

    Parameters
    ----------
    weights : array_like, shape (T, k + 1)
        Of one sequence, from `fastconv.attention_weights`.
    ax : matplotlib Axes, optional
        Where to draw; by default in a figure of its own. A colour bar is put beside it.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        If there is no matplotlib.
    TypeError
        If `weights` holds no real numbers.
    ValueError
        If it is empty or has not two axes.

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> from fastconv import plot
    >>> zero = np.zeros((1, 1))
    >>> h, tape = fc.attention_rnn(np.ones((9, 1)), zero, zero, zero, window=3, return_tape=True)
    >>> ax = plot.attention_weights(fc.attention_weights(tape))
    >>> ax.get_xlabel(), ax.images[0].get_array().shape
    ('step t', (4, 9))
    """
    a = as_array("weights", weights)
    if a.ndim != 2 or not a.size:
        hint = " (of a batch, one sequence)" if a.ndim == 3 else ""
        wrong_shape("weights", f"(T, k + 1){hint}", a)
    ax = _axes(ax)
    steps, columns = a.shape
    # An infinite window reaches back to the start: at step t to h[t-i] for i <= t + columns - T.
    beyond = np.arange(columns) > np.arange(steps)[:, np.newaxis] + columns - steps
    nothing = beyond & (not a[beyond].any()) | ~a.any(axis=1, keepdims=True)
    picture = np.ma.masked_array(a.astype(np.float64), nothing).T
    ax.set_facecolor("0.88")
    image = ax.imshow(
        picture, aspect="auto", vmin=0, extent=(0.5, steps + 0.5, columns - 0.5, -0.5)
    )
    if columns <= 12:
        ax.set_yticks(range(columns), ["x[t]", *(f"h[t-{i}]" for i in range(1, columns))])
        ax.set_ylabel("attends to")
    else:
        ax.set_ylabel("attends to h[t-i], i (0: x[t])")
    ax.set_xlabel("step t")
    ax.figure.colorbar(image, ax=ax, label="weight a", pad=0.02)
    return ax


def jacobian(jacobian: ArrayLike, *, ax: "Axes | None" = None) -> "Axes":
    """Draw a Jacobian as a matrix: a row for each output, a column for each variable.

    White is 0, blue and red are below and above it. Where outputs or variables have more than one
    axis, they are written one after the other, the last axis fastest, with a line wherever the
    first one moves on.

    Parameters
    ----------
    jacobian : array_like
        One of `fastconv.jacobian`: output's shape, then the variable's. The first half of the axes
        (rounded down) belongs to the output, which is so for all of them.
    ax : matplotlib Axes, optional
        Where to draw; by default in a figure of its own. A colour bar is put beside it.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        If there is no matplotlib.
    TypeError
        If `jacobian` holds no real numbers.
    ValueError
        If it is empty, or has fewer than two axes, or three: those of a batch, which must be
        drawn one by one.

    Examples
    --------
    >>> import fastconv as fc
    >>> import numpy as np
    >>> from fastconv import plot
    >>> x, w = np.ones((7, 11)), np.ones((1, 7, 3))
    >>> ax = plot.jacobian(fc.jacobian.conv(x, w, stride=2, wrt="input"))
    >>> ax.images[0].get_array().shape  # (1, 5) outputs by (7, 11) inputs
    (5, 77)
    """
    full = as_array("jacobian", jacobian)
    if full.ndim < 2 or full.ndim == 3 or not full.size:
        hint = " (of a batch, one matrix)" if full.ndim == 3 else ""
        wrong_shape("jacobian", f"the output's shape and then the variable's{hint}", full)
    ax = _axes(ax)
    outputs, variables = full.shape[: full.ndim // 2], full.shape[full.ndim // 2 :]
    matrix = full.reshape(np.prod(outputs), -1).astype(np.float64)
    top = float(np.max(np.abs(matrix), initial=0.0, where=np.isfinite(matrix))) or 1.0
    image = ax.imshow(matrix, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto")
    for shape, draw in (outputs, ax.axhline), (variables, ax.axvline):
        if len(shape) > 1:
            inner = int(np.prod(shape[1:]))
            for edge in range(1, shape[0]):
                draw(edge * inner - 0.5, color="0.6", lw=0.6)
    ax.locator_params(integer=True)
    ax.spines[["top", "right"]].set_visible(True)
    ax.set(xlabel=f"variable {_shape(variables)}", ylabel=f"output {_shape(outputs)}")
    ax.figure.colorbar(image, ax=ax, label="derivative", pad=0.02)
    return ax


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _axes(ax: Any) -> "Axes":
    """The axes given, or those of a new figure."""
    try:
        from matplotlib import pyplot
        from matplotlib.axes import Axes
    except ImportError as error:
        raise ImportError(
            "fastconv.plot draws with matplotlib, which could not be imported; it comes with the"
            " extra plot: pip install 'fastconv[plot]'"
        ) from error
    if ax is None:
        return pyplot.figure().add_subplot()
    if not isinstance(ax, Axes):
        raise TypeError(f"ax: expected matplotlib Axes, got {kind(ax)}")
    return ax
