"""What all sources of images share: how a sequence model reads an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from bpx.data.dataset import Source, require_choice
from bpx.engine.arrays import Array

SEQUENCES = ("rows", "pixels", "permuted")
PERMUTATION_SEED = 0
CHANNELS = (1, 3, 4)  # of images: gray, RGB, RGBA


def channels_first(shape: tuple[int, ...]) -> bool:
    """Return whether images of this shape have their channels before height and width.

    >>> channels_first((3, 32, 32)), channels_first((32, 32, 3))
    (True, False)
    """
    return len(shape) == 3 and shape[-1] not in CHANNELS and shape[0] in CHANNELS


def as_images(x: Array, shape: tuple[int, ...]) -> Array:
    """Return rows as images (n, height, width) or (n, height, width, channels), wherever ``shape`` has its channels."""
    images = x.reshape(-1, *shape)
    return np.moveaxis(images, 1, -1) if channels_first(shape) else images


class Arranged(TypedDict):
    """How samples that are images may be read, by the names that Dataset has for it."""

    image_shape: tuple[int, int] | None
    sequence_shape: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ImageSource(Source):
    """A source of images.

    Attributes
    ----------
    sequence : str
        How a sequence model reads an image: ``rows`` (a row a step), ``pixels`` (a pixel a step, row by row), or
        ``permuted`` (in an order that is drawn once and is the same for all images and all runs; Le et al. 2015).
    """

    sequence: str = "rows"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("sequence", SEQUENCES, self.sequence)

    def arranged(self, x: Array, height: int, width: int) -> tuple[Array, Arranged]:
        """Return images (n, height * width), their pixels in the order of ``sequence``, and how they may be read.

        Permuted pixels are no image any more.
        """
        if self.sequence == "rows":
            return x, {"image_shape": (height, width), "sequence_shape": (height, width)}
        pixels = height * width
        if self.sequence == "pixels":
            return x, {"image_shape": (height, width), "sequence_shape": (pixels, 1)}
        order = np.random.default_rng(PERMUTATION_SEED).permutation(pixels)
        return np.ascontiguousarray(x[:, order]), {"image_shape": None, "sequence_shape": (pixels, 1)}
