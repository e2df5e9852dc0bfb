"""The networks of cases.py in JAX: for each kind the parameters that a random generator draws, and the outputs."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

UNITS, CLASSES = 100, 10


def dense(rng, n_in, n_out):
    W = rng.standard_normal((n_in, n_out), dtype=np.float32) * np.float32((2 / (n_in + n_out)) ** 0.5)
    return W, np.zeros(n_out, np.float32)


def affine(parameters, x):
    W, b = parameters
    return x @ W + b


def perceptron(case, rng):
    phi = {"relu": jax.nn.relu, "tanh": jnp.tanh}[case.activation]
    widths = [*case.shape, *case.hidden, case.n_out]

    def outputs(parameters, x):
        for layer in parameters[:-1]:
            x = phi(affine(layer, x))
        return affine(parameters[-1], x)

    return [dense(rng, a, b) for a, b in pairwise(widths)], outputs


def rnn_step(state, u, z):
    h = jnp.tanh(u + z)
    return (h,)


def lstm_step(state, u, z):
    i, f, g, o = jnp.split(u + z, 4, axis=1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru_step(state, u, z):
    (ur, uz, um), (zr, zz, zm) = jnp.split(u, 3, axis=1), jnp.split(z, 3, axis=1)
    keep = jax.nn.sigmoid(uz + zz)
    m = jnp.tanh(um + jax.nn.sigmoid(ur + zr) * zm)
    return (m + keep * (state[0] - m),)


def recurrent(step, gates, states):
    """Return the maker of a recurrent network of 100 units, whose input products are one product."""

    def make(case, rng):
        n = UNITS
        parameters = dense(rng, case.shape[1], gates * n), dense(rng, n, gates * n), dense(rng, n, CLASSES)

        def outputs(parameters, x):
            inputs, through_time, readout = parameters
            start = (jnp.zeros((len(x), n)),) * states

            def one(state, u):
                return step(state, u, affine(through_time, state[0])), None

            return affine(readout, lax.scan(one, start, affine(inputs, x).swapaxes(0, 1))[0][0])

        return parameters, outputs

    return make


def kernel(rng, side, n_in, n_out):
    W, b = dense(rng, side * side * n_in, n_out)
    return W.reshape(side, side, n_in, n_out), b


def convolve(parameters, x, padding):
    W, b = parameters
    return lax.conv_general_dilated(x, W, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")) + b


def halved(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def lenet(case, rng):
    kernels, widths = [kernel(rng, 5, 1, 6), kernel(rng, 5, 6, 16)], (400, 120, 84, CLASSES)
    layers = [dense(rng, a, b) for a, b in pairwise(widths)]

    def outputs(parameters, x):
        (first, second), (*hidden, last) = parameters
        x = halved(jax.nn.relu(convolve(first, x, "SAME")))
        x = halved(jax.nn.relu(convolve(second, x, "VALID"))).reshape(len(x), -1)
        for layer in hidden:
            x = jax.nn.relu(affine(layer, x))
        return affine(last, x)

    return (kernels, layers), outputs


def deep_conv(case, rng):
    kernels = [kernel(rng, 3, c, 16) for c in [1] + [16] * 7]

    def outputs(parameters, x):
        for layer in parameters[0]:
            x = jax.nn.relu(convolve(layer, x, "SAME"))
        return affine(parameters[1], x.mean((1, 2)))

    return (kernels, dense(rng, 16, CLASSES)), outputs


def norm(parameters, x):
    scale, shift = parameters
    x = x - x.mean(-1, keepdims=True)
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale + shift


def encoder(case, rng, d=64, heads=4, blocks=4):
    tokens, n_in = case.shape

    def unit():
        return np.ones(d, np.float32), np.zeros(d, np.float32)

    def block():
        return (unit(), dense(rng, d, 3 * d), dense(rng, d, d)), (unit(), dense(rng, d, 4 * d), dense(rng, 4 * d, d))

    parameters = (dense(rng, n_in, d), np.zeros((tokens, d), np.float32), [block() for _ in range(blocks)], unit(),
                  dense(rng, d, CLASSES))  # fmt: skip

    def outputs(parameters, x):
        embed, positions, halves, last, readout = parameters
        x = affine(embed, x) + positions
        for (before, qkv, out), (between, wide, narrow) in halves:
            q, k, v = affine(qkv, norm(before, x)).reshape(len(x), tokens, 3, heads, -1).transpose(2, 0, 3, 1, 4)
            P = jax.nn.softmax(q @ k.swapaxes(2, 3) / q.shape[-1] ** 0.5)
            x = x + affine(out, (P @ v).swapaxes(1, 2).reshape(x.shape))
            x = x + affine(narrow, jax.nn.relu(affine(wide, norm(between, x))))
        return affine(readout, norm(last, x).mean(1))

    return parameters, outputs


MODELS = {
    "perceptron": perceptron, "RNN": recurrent(rnn_step, 1, 1), "LSTM": recurrent(lstm_step, 4, 2),
    "GRU": recurrent(gru_step, 3, 1), "LeNet": lenet, "deep convolutions": deep_conv, "encoder": encoder,
}  # fmt: skip
