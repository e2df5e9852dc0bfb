"""The same training step in JAX, compiled: for one perceptron, and for several seeds of it at once (vmap)."""

import os
from itertools import pairwise

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
import numpy as np

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


def start(case, seed):
    """Return the weights and biases of a perceptron, layer by layer."""
    rng = np.random.default_rng(seed)
    widths = [*case.shape, *case.hidden, case.n_out]
    return [
        (rng.standard_normal((a, b), dtype=np.float32) * np.float32((2 / (a + b)) ** 0.5), np.zeros(b, np.float32))
        for a, b in pairwise(widths)
    ]


def plain_step(case, lr):
    """Return ``step(parameters, x, y)``: the parameters after one step of gradient descent, and the cost."""
    phi = ACTIVATIONS[case.activation]

    def cost(parameters, x, y):
        *hidden, (W, b) = parameters
        for V, c in hidden:
            x = phi(x @ V + c)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x @ W + b), y[:, None], 1))

    def step(parameters, x, y):
        value, gradients = jax.value_and_grad(cost)(parameters, x, y)
        return jax.tree.map(lambda p, g: p - lr * g, parameters, gradients), value

    return step


def epochs(step, parameters, x, y, batch):
    """Return a function that makes an epoch of steps on shuffled batches, each waited for."""
    rng, held = np.random.default_rng(1), [parameters]

    def epoch():
        order = rng.permutation(len(x))
        for first in range(0, len(x), batch):
            rows = order[first : first + batch]
            held[0], value = step(held[0], x[rows], y[rows])
            value.block_until_ready()
            yield

    return epoch


def jitted(case, x, y, lr):
    """Return the steps of one network."""
    step = jax.jit(plain_step(case, lr), donate_argnums=0)
    return epochs(step, jax.device_put(start(case, 0)), x, y.astype(np.int32), case.batch)


def seeds_at_once(case, x, y, lr, seeds):
    """Return the steps of several networks, which see the same batches."""
    many = jax.tree.map(lambda *leaves: np.stack(leaves), *[start(case, seed) for seed in range(seeds)])
    step = jax.jit(jax.vmap(plain_step(case, lr), in_axes=(0, None, None)), donate_argnums=0)
    return epochs(step, jax.device_put(many), x, y.astype(np.int32), case.batch)
