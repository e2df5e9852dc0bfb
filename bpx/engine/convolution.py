"""Convolution: a Dense over the patches of an image, which are gathered a few images at a time."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.lib.stride_tricks import as_strided

from bpx.engine.arrays import Array, DType, zeros
from bpx.engine.dense import Dense
from bpx.engine.initializer import Initializer
from bpx.engine.layer import Shape, rows
from bpx.engine.numbers import require
from bpx.engine.parameters import ParameterVector

GATHERED = 1 << 18  # numbers of the patches that are held at a time, about: they stay in a core's cache
SMALL = 10**6  # multiplications up to which OpenBLAS multiplies two matrices where they are, and copies neither


@final
class Convolution(Dense):
    """Mix every pixel's kernel x kernel neighbourhood: (H, W, C) to (H', W', n_out), with W (kernel**2 C, n_out).

    z[h, w] = sum over i, j < kernel of x[s h + i - p, s w + j - p] W[i, j] + b, s the stride and p the padding with
    zeros; H' = (H + 2 p - kernel) // s + 1. Backward: dW = patches(x)^T delta; dx adds up, at every pixel, delta W^T of
    the patches that hold it, or, where the image keeps its size, is the convolution of delta with the kernel turned by
    180 degrees. ``n_in`` is the inputs of a unit, kernel**2 C. (LeCun et al. 1998; as a matrix product Chellapilla et
    al. 2006, section 3.)

    Parameters
    ----------
    n_out : int
        Channels of the output.
    kernel, stride, padding : int
        Side of the kernel; pixels from one patch to the next; zeros around the image.
    bias : bool
        Whether there is a b.
    """

    def __init__(self, n_out: int, kernel: int, stride: int = 1, padding: int = 0, bias: bool = True) -> None:
        super().__init__(n_out, bias)
        require(kernel >= 1, "model.kernel", "at least 1", kernel)
        require(stride >= 1, "model.stride", "at least 1", stride)
        require(0 <= padding < kernel, "model.padding", "at least 0 and below the kernel", padding)
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Declare W and b; raises ValueError where the input is no image, or smaller than kernel or stride."""
        if len(shape) != 3:
            raise ValueError(f"a convolution needs images (height, width, channels), got samples of shape {shape}")
        H, W, C = shape
        k, p = self.kernel, self.padding
        for key, value in (("kernel", k), ("stride", self.stride)):
            if value > min(H, W):
                raise ValueError(f"model.{key} must be at most the image that it is applied to, {H} x {W}, got {value}")
        height, width = ((side + 2 * p - k) // self.stride + 1 for side in (H, W))
        super().build(name, (height, width, k * k * C), parameters)
        self.shape = shape
        return self.out_shape

    def draw(self, initializer: Initializer, rng: np.random.Generator) -> None:
        """Draw W and b."""
        super().draw(initializer.of_kernel(self.kernel), rng)

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own z and dx, the padded images of a batch, and room for the patches of a few."""
        super().bind(batch, dtype, rng)
        (H, W, C), (height, width, n_out) = self.shape, self.out_shape
        k, s, p = self.kernel, self.stride, self.padding
        self._turns = s == 1 and 2 * p == k - 1
        size = height * width * k * k * max(C, n_out if self._turns else 0)
        self._piece = min(batch, max(1, GATHERED // size))
        self._room, self._dW = zeros(self._piece * size, dtype), zeros(self.W.shape, dtype)
        outer, places = (H + 2 * p, W + 2 * p), (height, width)
        self._padded = _Patches(batch, (*outer, C), places, k, s, dtype)
        self._inside = self._padded.images[:, p : p + H, p : p + W]
        if not self.needs_input_grad:
            return
        channels = n_out if self._turns else C
        self._gradient = _Patches(self._piece, (*outer, channels), places, k, s, dtype)
        self._dinside = self._gradient.images[:, p : p + H, p : p + W]
        self._turned = zeros((k * k * n_out, C) if self._turns else self.W.shape[::-1], dtype)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute z = patches(x) W + b."""
        self.x = x
        np.copyto(self._inside[: len(x)], x)
        W, z = self.W.value, self.y
        for part in self._pieces(len(x)):
            _multiply(self._padded.gather(part, self._room), W, rows(z[part]))
        self.add_bias(z)
        return z

    def backward(self, dy: Array) -> Array:
        """Compute dW, db and dx."""
        if self.b is not None:
            np.dot(self._ones[: len(rows(dy))], rows(dy), out=self.b.grad)
        self.W.grad.fill(0)
        if self.needs_input_grad:
            self._turn()
        for part in self._pieces(len(dy)):
            delta = dy[part]
            patches = self._padded.gather(part, self._room)
            for some in _small(len(patches), self._dW.size):
                np.dot(patches[some].T, rows(delta)[some], out=self._dW)
                self.W.grad[...] += self._dW
            if self.needs_input_grad and self._turns:
                np.copyto(self._dinside[: len(delta)], delta)
                patches = self._gradient.gather(slice(0, len(delta)), self._room)
                _multiply(patches, self._turned, rows(self.dx[part]))
            elif self.needs_input_grad:
                patches = self._room[: len(rows(delta)) * self.n_in].reshape(-1, self.n_in)
                _multiply(rows(delta), self._turned, patches)
                self._gradient.add(patches)
                np.copyto(self.dx[part], self._dinside[: len(delta)])
        return self.dx

    def _turn(self) -> None:
        """Write W^T, or W with its kernel turned by 180 degrees, whose inputs are those of its units."""
        W, k = self.W.value, self.kernel
        if self._turns:
            kernel = W.reshape(k, k, self.shape[-1], self.n_out)[::-1, ::-1].swapaxes(2, 3)
            np.copyto(self._turned.reshape(kernel.shape), kernel)
        else:
            np.copyto(self._turned, W.T)

    def inputs(self) -> Array:
        """Return the patches of the last x, (batch, H', W', n_in)."""
        return self._padded.windows[: len(self.x)].reshape(len(self.x), *self.out_shape[:2], self.n_in)

    def overlaps(self) -> tuple[Array, ...]:
        """Return (H', H) and (W', W): 1 / kernel where a patch holds a row, or a column, of the image."""
        found = []
        for out, side in zip(self.out_shape[:2], self.shape[:2], strict=True):
            first = self.stride * np.arange(out)[:, None] - self.padding
            pixel = np.arange(side)
            found.append(((pixel >= first) & (pixel < first + self.kernel)) / self.kernel)
        return tuple(found)

    def _pieces(self, n: int) -> list[slice]:
        return [slice(start, min(start + self._piece, n)) for start in range(0, n, self._piece)]


def _multiply(a: Array, b: Array, out: Array) -> None:
    """Write a b, some rows at a time."""
    for part in _small(len(a), b.size):
        np.dot(a[part], b, out=out[part])


def _small(n: int, size: int) -> list[slice]:
    """Return the parts of ``n`` rows that make small products with a matrix of ``size`` numbers; all where it is large.

    Few rows at a time take longer than the copies that are saved.
    """
    most = SMALL // size
    if n <= most or most < 128:
        return [slice(n)]
    length = -(-n // -(-n // most))
    return [slice(start, min(start + length, n)) for start in range(0, n, length)]


class _Patches:
    """Images (batch, *shape), and in ``windows`` the patch at every ``stride``-th pixel, ``places`` of them."""

    def __init__(self, batch: int, shape: Shape, places: Shape, kernel: int, stride: int, dtype: DType) -> None:
        self.images = zeros((batch, *shape), dtype)
        b, h, w, c = self.images.strides
        self.n_in, self.single = kernel * kernel * shape[-1], shape[-1] == 1
        windows = (batch, *places, kernel, kernel * shape[-1])  # kernel C neighbours of a row lie side by side
        self.windows = as_strided(self.images, windows, (b, stride * h, stride * w, h, c))
        self.apart = -(-kernel // stride)  # patches of a row that are so far apart share no pixel

    def gather(self, part: slice, room: Array) -> Array:
        """Copy the patches of some images into ``room``, and return them (patches, n_in).

        With a single channel a patch is stored as a column: rows of pixels are then copied, which are longer.
        """
        windows = self.windows[part]
        patches: Array = room[: windows.size]
        if self.single:
            patches = patches.reshape(self.n_in, -1)
            np.copyto(patches.reshape(*windows.shape[3:], *windows.shape[:3]), windows.transpose(3, 4, 0, 1, 2))
            return patches.T
        np.copyto(patches.reshape(windows.shape), windows)
        return patches.reshape(-1, self.n_in)

    def add(self, patches: Array) -> None:
        """Set the images to the sum, at every pixel, of ``patches`` (patches, n_in), contiguous, over it."""
        self.images.fill(0)
        n = len(patches) // (self.windows.shape[1] * self.windows.shape[2])
        windows = self.windows[:n]
        parts = patches.reshape(windows.shape)
        for i in range(windows.shape[3]):
            for first in range(self.apart):
                windows[:, :, first :: self.apart, i] += parts[:, :, first :: self.apart, i]
