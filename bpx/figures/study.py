"""What the studies draw with: a quantity over seeds, as its median and a band."""

from __future__ import annotations

from typing import Any

import numpy as np

from bpx.figures.canvas import dots

BAND_LOW, BAND_HIGH = 10, 90  # percentiles of the band


def band(axes: Any, x: Any, samples: Any, label: str, colour: str, style: str = "-") -> None:
    """Draw the median of ``samples`` (seeds, n) over ``x`` (n,), and the band that holds 80 % of the seeds."""
    samples = np.atleast_2d(np.asarray(samples, float))
    low, middle, high = np.nanpercentile(samples, (BAND_LOW, 50, BAND_HIGH), axis=0)
    axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    axes.plot(x, middle, style, color=colour, lw=1.5, marker=dots(len(middle)), label=label)
