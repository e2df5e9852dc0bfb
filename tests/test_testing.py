"""The checks for parts of one's own say what is wrong; that the parts of bpx pass them is tested with these."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from bpx import testing
from bpx.data import Moons
from bpx.engine.activation import ActivationFunction
from bpx.engine.initializers import Initializer
from bpx.engine.losses import MeanSquaredError
from bpx.engine.normalization import BatchNorm, LayerNorm
from bpx.engine.optimizers import Optimizer
from bpx.engine.schedules import Constant, LRSchedule
from bpx.engine.transforms import LearningRate, Transform
from bpx.probes.probe import Probe, per_layer


def fails(check, part, said):
    """The check says so in one line."""
    with pytest.raises(AssertionError, match=said) as raised:
        check(part)
    assert "\n" not in str(raised.value)


class Twice(ActivationFunction):
    """phi(z) = 2 z, right but for what a test changes."""

    name = "twice"
    max_slope = 2.0

    def f(self, z, out):
        np.multiply(z, 2 if np.abs(z).max() < 1e9 else 0.5, out=out)

    def df(self, z, a, out):
        out.fill(2)


class Undocumented(Twice):
    name = "undocumented"


class Wrong(Twice):
    """Its derivative is not that of f."""

    def df(self, z, a, out):
        out.fill(1.9)


class Steeper(Twice):
    """Its slope is more than it says."""

    max_slope = 1.0


class Falling(Twice):
    """It falls, and says that it rises."""

    def f(self, z, out):
        np.negative(z, out=out)

    def df(self, z, a, out):
        out.fill(-1)


class Overflowing(Twice):
    """It leaves the range."""

    def f(self, z, out):
        np.multiply(z, 2, out=out)
        out += z * z - z * z


class Overwriting(Twice):
    """It writes into the output of f."""

    def df(self, z, a, out):
        out.fill(2)
        a.fill(0)


class Forgetful(Twice):
    """It does not keep its parameter."""

    def __init__(self, scale=2.0):
        pass


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Undocumented, "has no docstring"),
        (Wrong, "df is 1.9 at z = .*, a central difference of f 2$"),
        (Steeper, "max_slope must be at least 2"),
        (Falling, "monotone must be False"),
        (Overflowing, "at the extremes of float32: overflow"),
        (Overwriting, "must not write into z, nor df into a"),
        (Forgetful, "must keep its parameter scale"),
    ],
)
def test_check_activation_says_what_is_wrong(cls, said):
    testing.check_activation(Twice())
    fails(testing.check_activation, cls(), said)


@dataclass(frozen=True, kw_only=True)
class Half(Initializer):
    """N(0, 1/4), right but for what a test changes."""

    name: ClassVar[str] = "half"

    def __call__(self, rng, W):
        W[...] = rng.standard_normal(W.shape) / 2

    def weight_std(self, n_in, n_out):
        return 0.5


class Leaves(Half):
    """It leaves a column as it was."""

    def __call__(self, rng, W):
        W[:, 1:] = rng.standard_normal(W[:, 1:].shape) / 2


class Unseeded(Half):
    """It draws from elsewhere."""

    def __call__(self, rng, W):
        W[...] = np.random.default_rng().standard_normal(W.shape) / 2


class Wider(Half):
    """Its weights are wider than it says."""

    def __call__(self, rng, W):
        W[...] = rng.standard_normal(W.shape)


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Leaves, "not finite in float32"),
        (Unseeded, "other weights from the same seed"),
        (Wider, r"weight_std\(300, 200\) is 0.5, the entries' 0.99"),
    ],
)
def test_check_initializer_says_what_is_wrong(cls, said):
    testing.check_initializer(Half())
    fails(testing.check_initializer, cls(), said)


class Absolute(MeanSquaredError):
    """Half the square."""

    name = "absolute"


class WrongSlope(Absolute):
    """Its gradient is twice the right one."""

    def backward(self):
        return super().backward() * 2


class Summed(Absolute):
    """The sum over the rows."""

    def forward(self, z, y):
        return super().forward(z, y) * self.n

    def backward(self):
        return super().backward() * self.n


class Writing(Absolute):
    """It writes into z."""

    def predict(self, z):
        z += 0.5 * (z.dtype == np.float32)
        return super().predict(z)


class Wide(Absolute):
    """Its gradient is float64."""

    def backward(self):
        return np.asarray(super().backward(), float)


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (WrongSlope, "backward is .*, a central difference of forward"),
        (Summed, "the rows' mean"),
        (Writing, "must not write into its outputs z"),
        (Wide, "backward must keep float32, got float64"),
    ],
)
def test_check_loss_says_what_is_wrong(cls, said):
    testing.check_loss(Absolute())
    fails(testing.check_loss, cls(), said)


class Shrinking(LayerNorm):
    """Layer normalization, right but for what a test changes."""

    method = "shrinking"


class NoMeanBackward(Shrinking):
    """Its backward forgets the mean."""

    def backward(self, dy):
        super().backward(dy)
        self.dx += 0.01
        return self.dx


class IntoItsInput(Shrinking):
    """It writes into its input."""

    def forward(self, x, train):
        y = super().forward(x, train)
        if self.y.dtype == np.float32:
            x *= 1.5
        return y


class BatchInEvaluation(BatchNorm):
    """It takes the batch in evaluation, too."""

    method = "batch_in_evaluation"

    def forward(self, x, train):
        return super().forward(x, True if len(x) > 1 else train)


class Forgotten(BatchNorm):
    """Its running statistics are not named."""

    method = "forgotten"

    def statistics(self):
        return {}


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (NoMeanBackward, "is off by"),
        (IntoItsInput, "must not write into its input"),
        (BatchInEvaluation, "evaluation must not depend on the batch's other rows"),
        (Forgotten, "statistics must give all"),
    ],
)
def test_check_normalization_says_what_is_wrong(cls, said):
    testing.check_normalization(Shrinking())
    fails(testing.check_normalization, cls(), said)


class Sign(Transform):
    """The sign of the gradient, with a step count that doubles as its memory."""

    state_fields = ("seen",)
    seen = 0.0

    def __call__(self, u, factor):
        self.seen += 1
        np.sign(u, out=u)
        u *= 1 / self.seen
        return u, factor


class Careless(Sign):
    state_fields = ()


class Hasty(Sign):
    def __call__(self, u, factor):
        u, factor = super().__call__(u, factor)
        self.parameters.theta -= 0.001
        return u, factor


class Uphill(Sign):
    def __call__(self, u, factor):
        u, factor = super().__call__(u, factor)
        return u, -factor


class InFloat64(Sign):
    def __call__(self, u, factor):
        u, factor = super().__call__(u, factor)
        return u.astype(float), factor


def optimizer_of(transform):
    def build(lr):
        """Follow the transform."""
        rate = LearningRate(lr, Constant())
        return Optimizer([transform(), rate], rate)

    return build


def undocumented(lr):
    return optimizer_of(Sign)(lr)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (undocumented, "undocumented has no docstring"),
        (optimizer_of(Careless), "state_fields must name all"),
        (optimizer_of(Hasty), "propose must leave theta"),
        (optimizer_of(Uphill), "does not lower the cost"),
        (optimizer_of(InFloat64), "the direction must be float32, got float64"),
    ],
)
def test_check_optimizer_says_what_is_wrong(build, said):
    testing.check_optimizer(optimizer_of(Sign))
    fails(testing.check_optimizer, build, said)


@dataclass(kw_only=True)
class Slowing(LRSchedule):
    """1 / (1 + evaluations), right but for what a test changes."""

    name: ClassVar[str] = "falling"
    state_fields: ClassVar[tuple[str, ...]] = ("n",)
    n: int = 0

    def at(self, step):
        return 1 / (1 + self.n)

    def on_evaluation(self, cost):
        self.n += 1


class Amnesic(Slowing):
    """Its state is not named."""

    state_fields = ()


class Counting(Slowing):
    """It changes when it is asked."""

    def at(self, step):
        self.n += 1
        return super().at(step)


class Negative(Slowing):
    """It goes uphill at the end."""

    def at(self, step):
        return 1 - step / self.total_steps


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Amnesic, "state_fields must name all that an evaluation changes"),
        (Counting, "another multiplier when it is asked again"),
        (Negative, "is -0.02 at step 51 of 50"),
    ],
)
def test_check_schedule_says_what_is_wrong(cls, said):
    testing.check_schedule(Slowing(total_steps=50))
    fails(testing.check_schedule, cls(total_steps=50), said)


class Source(Moons):
    """Moons, right but for what a test changes."""

    name = "source"
    wrong: ClassVar[dict] = {}

    def load(self, rng, dtype):
        data = super().load(rng, dtype)
        return replace(data, **{key: change(data, rng) for key, change in self.wrong.items()})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"x_train": lambda d, rng: d.x_train * np.nan}, "x_train has numbers that are not finite"),
        ({"x_test": lambda d, rng: d.x_test.astype(np.float16)}, "x_test must be float32, got float16"),
        ({"y_train": lambda d, rng: d.y_train + 1}, "y_train must be from 0 to 1"),
        ({"y_train": lambda d, rng: d.y_train[1:]}, "y_train has 799 rows, x_train 800"),
        ({"y_test": lambda d, rng: np.random.default_rng().permutation(d.y_test)}, "another y_test from the same seed"),
        ({"sha256": lambda d, rng: ""}, "sha256 must be given"),
        ({"class_names": lambda d, rng: ()}, "class_names must be 2, got 0"),
    ],
)
def test_check_dataset_says_what_is_wrong(wrong, said):
    testing.check_dataset(Source())

    class Other(Source):
        """It differs."""

    Other.wrong = wrong
    fails(testing.check_dataset, Other(), said)


class Largest(Probe):
    """The largest weight of every layer, right but for what a test changes."""

    name = "largest"
    layer_quantities = ("largest_weight",)

    def __init__(self, context):
        self.net = context.net
        self.dense = context.net.dense
        self.declare(per_layer([f"layer_{i + 1:02d}" for i in range(len(self.dense))], ("largest_weight",)))

    def on_gradient(self, step):
        self.values[:] = [np.abs(d.W.value).max() for d in self.dense]


class Unnamed(Largest):
    """It does not name its quantity."""

    layer_quantities = ()


class Touching(Largest):
    """It changes the gradient."""

    def on_gradient(self, step):
        super().on_gradient(step)
        self.net.parameters.grad *= 1.001


class TouchingUpdates(Largest):
    """It changes the update."""

    def on_update(self, optimizer):
        optimizer.u *= 1.001


class DrawingMasks(Largest):
    """It takes random numbers that are training's."""

    def on_gradient(self, step):
        super().on_gradient(step)
        self.net.rng.random()


class Single(Largest):
    """Its values are float32."""

    def __init__(self, context):
        super().__init__(context)
        self.values = self.values.astype(np.float32)


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Unnamed, "measures largest_weight: name it"),
        (Touching, "on_gradient must only read"),
        (TouchingUpdates, "on_update must only read"),
        (DrawingMasks, "training in float32 ends otherwise with it"),
        (Single, "values must be float64, one for each of its 3 keys"),
    ],
)
def test_check_probe_says_what_is_wrong(cls, said):
    testing.check_probe(Largest)
    fails(testing.check_probe, cls, said)
