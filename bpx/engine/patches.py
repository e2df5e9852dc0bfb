"""Patches: the neighbourhood of every pixel as one row; followed by a Dense it is a convolution."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.lib.stride_tricks import as_strided

from bpx.engine.arrays import Array, DType, zeros
from bpx.engine.layer import Layer, Shape
from bpx.engine.numbers import require
from bpx.engine.parameters import ParameterVector


@final
class Patches(Layer):
    """Gather the kernel x kernel neighbourhood of every pixel: (H, W, C) to (H', W', kernel**2 C).

    y[h, w] holds x[s h + i - p, s w + j - p] for i and j below ``kernel``, s the stride and p the padding with zeros:
    H' = (H + 2 p - kernel) // s + 1. Backward adds up, for every pixel, the gradients of the patches that hold it.
    (LeCun et al. 1998; the matrix form is Chellapilla et al. 2006, section 3.)
    """

    kind, display_name = "patches", "patches"

    def __init__(self, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        require(kernel >= 1, "model.kernel", "at least 1", kernel)
        require(stride >= 1, "model.stride", "at least 1", stride)
        require(0 <= padding < kernel, "model.padding", "at least 0 and below the kernel", padding)
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Return (H', W', kernel**2 C); raises ValueError where the input is no image, or smaller than the kernel."""
        if len(shape) != 3:
            raise ValueError(f"a convolution needs images (height, width, channels), got samples of shape {shape}")
        H, W, C = shape
        k, p = self.kernel, self.padding
        if k > min(H, W) + 2 * p:
            raise ValueError(f"model.kernel must be at most the image, {H} x {W} padded by {p}, got {k}")
        rows, columns = ((side + 2 * p - k) // self.stride + 1 for side in (H, W))
        return self.place(name, shape, (rows, columns, k * k * C))

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own y, dx, and the padded image and its gradient."""
        H, W, C = self.shape
        rows, columns, _ = self.out_shape
        k, s, p = self.kernel, self.stride, self.padding
        outer = (H + 2 * p, W + 2 * p, C)
        self.allocate_buffers(batch, dtype, y=self.out_shape, dx=self.shape if self.needs_input_grad else (0,))
        self._padded = zeros((batch, *outer), dtype)
        self._inside = self._padded[:, p : p + H, p : p + W]
        b, h, w, c = self._padded.strides
        windows = (batch, rows, columns, k, k * C)  # k C neighbours of a row lie side by side
        self._windows = as_strided(self._padded, windows, (b, s * h, s * w, h, c))
        if self.needs_input_grad:
            self._dpadded = zeros((batch, *outer), dtype)
            self._dinside = self._dpadded[:, p : p + H, p : p + W]

    def forward(self, x: Array, train: bool) -> Array:
        """Copy every patch into its row."""
        n = len(x)
        self.x = x
        np.copyto(self._inside[:n], x)
        windows = self._windows[:n]
        np.copyto(self.y.reshape(windows.shape), windows)
        return self.y

    def backward(self, dy: Array) -> Array:
        """Add every patch's gradient to the pixels that it was gathered from."""
        if not self.needs_input_grad:
            return self.dx
        n, k, s = len(dy), self.kernel, self.stride
        rows, columns, _ = self.out_shape
        dpadded = self._dpadded[:n]
        dpadded.fill(0)
        parts = dy.reshape(n, rows, columns, k, k, self.shape[-1])
        for i in range(k):
            for j in range(k):
                dpadded[:, i : i + s * rows : s, j : j + s * columns : s] += parts[:, :, :, i, j]
        np.copyto(self.dx, self._dinside[:n])
        return self.dx
