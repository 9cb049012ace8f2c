"""Predictive coding as Song, Lukasiewicz, Xu & Bogacz (NeurIPS 2020) write it: slow, but readable.

This is the tests' oracle. It uses NumPy and float64, computes one sample and one vector at a time,
and takes the textbook's eps = x - mu. Layers are numbered from the output (l = 0) to the input
(l = l_max). theta[l] is the paper's theta^{l+1}, shape [n_l, n_{l+1}]. bias[l], shape [n_l], is the
weight from a neuron that is always 1; bias is None if the network has none. f is not applied to the
input layer, and the output is linear. Weight updates are summed over the batch.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = list[Array]
Activities = list[Array]  # of one sample: x[l], l = 0 .. l_max
Errors = list[Array]  # of one sample: eps[l], l = 0 .. l_max - 1


def sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # exp(-x) = inf gives 0, as it should
        return 1.0 / (1.0 + np.exp(-x))


F: dict[str, Callable[[Array], Array]] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.where(x > 0, x, 0.0),
}
F_PRIME: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda x: sigmoid(x) * (1.0 - sigmoid(x)),
    "tanh": lambda x: 1.0 - np.tanh(x) ** 2,
    "relu": lambda x: np.where(x > 0, 1.0, 0.0),
}


def presynaptic(theta: Weights, x: Activities, l: int, f: str) -> Array:
    """f(x^{l+1}), which theta^{l+1} is applied to. For the input layer it is x itself."""
    return x[l + 1] if l + 1 == len(theta) else F[f](x[l + 1])


def prediction(theta: Weights, bias: Weights | None, x: Activities, l: int, f: str) -> Array:
    """mu^l_i = sum_j theta^{l+1}_ij f(x^{l+1}_j) + b^{l+1}_i: Eq. 5, and Eq. 1 with y for x.

    It is a product and a sum, because the last bit of a BLAS call may depend on the place of an
    array in memory. Under C1, an error that inference has not reached yet must be exactly 0.
    """
    mu: Array = np.sum(theta[l] * presynaptic(theta, x, l, f), axis=1)
    return mu if bias is None else mu + bias[l]


def pullback(theta: Weights, x: Activities, error_below: Array, l: int, f: str) -> Array:
    """f'(x^l_i) sum_k eps^{l-1}_k theta^l_ki: Eq. 7, and Eq. 4 with y and delta for x and eps."""
    summed: Array = np.sum(error_below[:, None] * theta[l - 1], axis=0)
    return F_PRIME[f](x[l]) * summed


def forward(
    theta: Weights, bias: Weights | None, s_in: Array, f: str, noise: dict[int, Array] | None = None
) -> Activities:
    """y^l by Eq. 1, from the input to the output. Noise, if given, is added to each hidden y^l."""
    l_max = len(theta)
    y = [np.zeros(0)] * l_max + [s_in]
    for l in reversed(range(l_max)):
        y[l] = prediction(theta, bias, y, l, f)
        if noise is not None and l > 0:
            y[l] = y[l] + noise[l]
    return y


def errors(theta: Weights, bias: Weights | None, x: Activities, f: str) -> Errors:
    """eps^l = x^l - mu^l: Eq. 5, and Eq. 8 for l = 0."""
    return [x[l] - prediction(theta, bias, x, l, f) for l in range(len(theta))]


def energy(theta: Weights, bias: Weights | None, x: Activities, f: str) -> float:
    """F of one sample: Eq. 6. The updates do not use it; tests check them against it."""
    return sum(0.5 * float(np.sum(eps**2)) for eps in errors(theta, bias, x, f))


def delta_x(theta: Weights, x: Activities, eps: Errors, l: int, f: str, gamma: float) -> Array:
    """The change of x^l by Eq. 7 during learning: the input and the output are fixed, and hidden
    layers descend F."""
    if l in (0, len(theta)):
        return np.zeros_like(x[l])
    return gamma * (-eps[l] + pullback(theta, x, eps[l - 1], l, f))


def bp_update(
    theta: Weights, bias: Weights | None, batch_x: Array, batch_y: Array, *, f: str, alpha: float
) -> tuple[Weights, Weights | None]:
    """One step of backpropagation, Eqs. 1-4, on E = 1/2 sum (s_out - y^0)^2 over the batch.

    As in Eq. 4, delta^0 = s_out - y^0. So delta is -dE/dy, and the update is added (Eq. 3).
    """
    theta, bias = copies(theta), None if bias is None else copies(bias)
    d_theta = [np.zeros_like(w) for w in theta]
    d_bias = [np.zeros(len(w)) for w in theta]
    for s_in, s_out in zip(float64(batch_x), float64(batch_y), strict=True):
        y = forward(theta, bias, s_in, f)
        delta = s_out - y[0]
        for l in range(len(theta)):
            if l > 0:
                delta = pullback(theta, y, delta, l, f)
            d_theta[l] += alpha * np.outer(delta, presynaptic(theta, y, l, f))
            d_bias[l] += alpha * delta
    return added(theta, d_theta), None if bias is None else added(bias, d_bias)


def pc_update(
    theta: Weights,
    bias: Weights | None,
    batch_x: Array,
    batch_y: Array,
    *,
    f: str,
    alpha: float,
    rule: str,
    gamma: float,
    t: int | None = None,
    t_d: int | None = None,
    horizon: int | None = None,
    sigma: float = 0.0,
    noise: dict[int, Array] | None = None,
    trace: list[tuple[int, list[Array]]] | None = None,
) -> tuple[Weights, Weights | None]:
    """One weight update by "IL" (Algorithm 1, t_c = t), "Z-IL" (C2) or "Fa-Z-IL" (Algorithm 2).

    All samples share the weights, so they go through inference in lockstep. x_{t+1} (Eq. 7) and
    theta_{t+1} (Eq. 9) are both computed from the values at t. horizon is the last t of Fa-Z-IL,
    by default l_max - 1. noise[l] holds standard normals [batch, n_l] for every hidden layer and
    ablates C1: x^l_0 = mu^l_0 + sigma noise[l]. trace, if it is given, receives
    (t, [eps^l_t, shape [batch, n_l], for each l]) for every t.
    """
    theta, bias = copies(theta), None if bias is None else copies(bias)
    batch_x, batch_y = float64(batch_x), float64(batch_y)
    samples, l_max = range(len(batch_x)), len(theta)
    t_c, horizon = t, l_max - 1 if horizon is None else horizon
    t_last = {"IL": t_c, "Z-IL": l_max - 1, "Fa-Z-IL": horizon}[rule]
    if t_last is None or (rule == "Fa-Z-IL" and t_d is None) or (sigma != 0.0 and noise is None):
        raise ValueError("IL needs t, Fa-Z-IL needs t_d, sigma needs noise")

    x: list[Activities] = []  # x[s][l]
    for s in samples:
        scaled = None if noise is None else {l: sigma * float64(noise[l][s]) for l in noise}
        x.append(forward(theta, bias, batch_x[s], f, scaled))  # without noise: C1
        x[s][0] = batch_y[s]  # learning: the output is fixed to s_out

    history: list[list[Errors]] = []  # history[t][s][l]
    for t in range(t_last + 1):
        eps = [errors(theta, bias, x[s], f) for s in samples]
        history.append(eps)
        if trace is not None:
            trace.append((t, [np.stack([eps[s][l] for s in samples]) for l in range(l_max)]))

        d_theta = [np.zeros_like(w) for w in theta]
        d_bias = [np.zeros(len(w)) for w in theta]
        for s in samples:
            for l in range(l_max):
                if rule == "IL":
                    moves = np.array(t == t_c)
                elif rule == "Z-IL":
                    moves = np.array(t == l)
                else:
                    moves = phi([at[s][l] for at in history], t_d or 0)
                if moves.any():  # Eq. 9; Fa-Z-IL decides neuron by neuron, and a neuron is a row
                    step = np.where(moves, alpha * eps[s][l], 0.0)
                    d_theta[l] += np.outer(step, presynaptic(theta, x[s], l, f))
                    d_bias[l] += step

        for s in samples:
            dx = [delta_x(theta, x[s], eps[s], l, f, gamma) for l in range(l_max + 1)]
            x[s] = added(x[s], dx)
        theta, bias = added(theta, d_theta), None if bias is None else added(bias, d_bias)
    return theta, bias


def phi(eps: list[Array], t_d: int) -> NDArray[np.bool_]:
    """phi of section 4, neuron by neuron: true if eps^l_{t-t_d} = ... = eps^l_{t-1} = 0 and
    eps^l_t != 0.

    eps holds one layer's errors at 0 .. t. Before t = 0 an error counts as 0.
    """
    t = len(eps) - 1
    fires: NDArray[np.bool_] = eps[t] != 0
    for past in range(max(t - t_d, 0), t):
        fires = fires & (eps[past] == 0)
    return fires


def output(theta: Weights, bias: Weights | None, x: Array, *, f: str) -> Array:
    """The prediction y^0 of every sample of x, by Eq. 1."""
    theta, bias = copies(theta), None if bias is None else copies(bias)
    return np.stack([forward(theta, bias, s_in, f)[0] for s_in in float64(x)])


def float64(a: Array) -> Array:
    return np.array(a, dtype=np.float64, order="C")


def copies(arrays: Weights) -> Weights:
    return [float64(a) for a in arrays]


def added(arrays: Weights, deltas: Weights) -> Weights:
    return [a + d for a, d in zip(arrays, deltas, strict=True)]
