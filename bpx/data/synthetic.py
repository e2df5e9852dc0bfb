"""Made-up data: three classes in the plane, moons, spirals, and Gaussian noise for the demonstrations."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bpx.data.dataset import Dataset, Raw, Source, digest, require, require_random_state, split_80_20
from bpx.data.npz import LARGEST
from bpx.engine.arrays import Array, DType

WIDEST = 10**6  # inputs, or outputs
NUMBERS = LARGEST // 8  # at most, in float64


@dataclass(frozen=True, kw_only=True)
class Made(Source):
    """Generated samples, split 80/20, without a validation part unless ``val_size`` is given.

    Attributes
    ----------
    random_state : int
        The seed of the data, apart from that of a run.
    n_samples : int
        Samples in all.
    """

    name: ClassVar[str]
    random_state: int = 42
    n_samples: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        most = NUMBERS // self.columns
        require(self.n_samples >= 10, "n_samples", "at least 10", self.n_samples)
        require(self.n_samples <= most, "n_samples", f"at most {most:,}", f"{self.n_samples:,}")
        require_random_state(self.random_state)

    @property
    def columns(self) -> int:
        """The numbers in a sample."""
        return 2

    @property
    def told(self) -> tuple[str, ...]:
        """Notes on the samples to print."""
        return ()

    @property
    def sequence_shape(self) -> tuple[int, int] | None:
        """The steps and features of a sample that is a sequence."""
        return None

    @abstractmethod
    def make(self) -> tuple[Array, Array]:
        """Return features (n, n_in), and labels (n,) or (n, steps), or targets (n, n_out), which are floats."""

    def load(self, rng: np.random.Generator, dtype: DType) -> Dataset:
        """Return the samples."""
        x, y = self.make()
        rows, test = split_80_20(len(x), seed=self.random_state)
        train, val = self.held_out(rows, 0)
        n_classes = int(y.max()) + 1 if y.dtype.kind == "i" else None
        return Dataset(
            name=self.name,
            n_classes=n_classes,
            class_names=tuple(str(k) for k in range(n_classes or 0)),
            image_shape=None,
            sha256=digest(x, y),
            source=f"made with random_state {self.random_state}",
            sequence_shape=self.sequence_shape,
            notes=self.told,
            **self.scaled(Raw(x, y if n_classes else y.astype(dtype), train, val, test), dtype),
        )


@dataclass(frozen=True, kw_only=True)
class Classification(Made):
    """Three classes in the plane, one Gaussian cluster each: scikit-learn's make_classification."""

    name = "classification"

    def make(self) -> tuple[Array, Array]:
        """Return features (n, 2) and labels."""
        from sklearn.datasets import make_classification

        x, y = make_classification(
            n_samples=self.n_samples,
            n_features=2,
            n_classes=3,
            n_clusters_per_class=1,
            n_redundant=0,
            random_state=self.random_state,
        )
        return x, y.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Moons(Made):
    """Two interleaving half circles with Gaussian noise: scikit-learn's make_moons.

    Attributes
    ----------
    noise : float
        Standard deviation of the noise.
    """

    name = "moons"
    noise: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.noise >= 0, "noise", "at least 0", self.noise)

    def make(self) -> tuple[Array, Array]:
        """Return features (n, 2) and labels."""
        from sklearn.datasets import make_moons

        x, y = make_moons(self.n_samples, noise=self.noise, random_state=self.random_state)
        return x, y.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Spirals(Made):
    """Interleaving spiral arms, one a class: radius t, angle 2 pi (t turns + k / arms), plus Gaussian noise.

    Attributes
    ----------
    arms : int
        Classes.
    turns : float
        Of an arm around the origin.
    noise : float
        Standard deviation of the noise.
    """

    name = "spirals"
    arms: int = 3
    turns: float = 0.75
    noise: float = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        most = self.n_samples
        require(2 <= self.arms <= most, "arms", f"between 2 and dataset.n_samples={most}", self.arms)
        require(self.noise >= 0, "noise", "at least 0", self.noise)

    def make(self) -> tuple[Array, Array]:
        """Return features (n, 2) and labels."""
        rng = np.random.default_rng(self.random_state)
        y = np.arange(self.n_samples) % self.arms
        t = rng.uniform(0.05, 1, self.n_samples)
        angle = 2 * np.pi * (self.turns * t + y / self.arms)
        x = np.stack([t * np.cos(angle), t * np.sin(angle)], axis=1)
        return x + rng.normal(0, self.noise, x.shape), y


@dataclass(frozen=True, kw_only=True)
class Gaussian(Made):
    """Inputs and targets from N(0, 1), with nothing to learn: for looking at signal propagation alone.

    Attributes
    ----------
    n_in, n_out : int
        Inputs and targets.
    """

    name = "gaussian"
    n_in: int = 100
    n_out: int = 10
    scaling: str = "none"

    def __post_init__(self) -> None:
        for key in ("n_in", "n_out"):
            value = getattr(self, key)
            require(1 <= value <= WIDEST, key, f"between 1 and {WIDEST:,}", f"{value:,}")
        super().__post_init__()

    @property
    def columns(self) -> int:
        """The numbers in a sample: inputs and targets."""
        return self.n_in + self.n_out

    def make(self) -> tuple[Array, Array]:
        """Return inputs (n, n_in) and targets (n, n_out)."""
        rng = np.random.default_rng(self.random_state)
        return rng.standard_normal((self.n_samples, self.n_in)), rng.standard_normal((self.n_samples, self.n_out))
