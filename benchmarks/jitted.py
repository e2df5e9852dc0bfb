"""The same training step in JAX, compiled: for one network, and for several seeds of it at once (vmap)."""

import jax
import jax.numpy as jnp
import numpy as np
from jitted_models import MODELS


def plain_step(outputs, lr):
    """Return ``step(parameters, x, y)``: the parameters after one step of gradient descent, and the cost."""

    def cost(parameters, x, y):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs(parameters, x)), y[:, None], 1))

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
    parameters, outputs = MODELS[case.kind](case, np.random.default_rng(0))
    step = jax.jit(plain_step(outputs, lr), donate_argnums=0)
    return epochs(step, jax.device_put(parameters), x.reshape(len(x), *case.shape), y.astype(np.int32), case.batch)


def seeds_at_once(case, x, y, lr, seeds):
    """Return the steps of several networks, which see the same batches."""
    drawn = [MODELS[case.kind](case, np.random.default_rng(seed)) for seed in range(seeds)]
    many = jax.tree.map(lambda *leaves: np.stack(leaves), *[parameters for parameters, _ in drawn])
    step = jax.jit(jax.vmap(plain_step(drawn[0][1], lr), in_axes=(0, None, None)), donate_argnums=0)
    return epochs(step, jax.device_put(many), x, y.astype(np.int32), case.batch)
