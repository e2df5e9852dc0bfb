"""What every figure shares: size, style, the dataset's name, safe logarithms."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, final

import numpy as np
from matplotlib import colormaps, rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from bpx.engine.arrays import Values

# Okabe and Ito (2008), Color Universal Design: seen apart with every kind of colour vision
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
YELLOW, GREY = "#f0e442", "#666666"
PALETTE = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
DPI = 110
NOTHING = "every value is zero, not finite or not measured"
MIN_DECADES = 0.02  # of a log axis: a narrower one would show rounding alone
FOOTER_HEIGHT = 0.035  # of the height: the line that names the data
CHARS_PER_INCH, INCHES_PER_LINE = 17, 0.155  # of a note under a title
MAX_LABEL = 24  # characters of a label that a user has chosen
LOG_AXIS_MIN, LOG_AXIS_MAX = 1e-250, 1e250  # what a log axis of matplotlib holds before its margins overflow


@final
class Picture(Figure):
    """A figure that a notebook shows as a picture, with pyplot or without."""

    def _repr_png_(self) -> bytes:
        """Return the figure as PNG; IPython calls this."""
        file = io.BytesIO()
        _print(self, file)
        return file.getvalue()


def new_figure(name: str, title: str, width: float = 8.0, height: float = 4.2, note: str = "") -> Picture:
    """Return an empty figure: its title, a ``note`` wrapped under it, below on the right ``name``, what it is of."""
    lines = textwrap.wrap(note, int(width * CHARS_PER_INCH))
    top = 0.34 + INCHES_PER_LINE * len(lines) + (0.08 if lines else 0.0)  # inches
    figure = Picture(figsize=(width, height + (top if lines else 0.0)), layout="constrained")
    height = figure.get_figheight()
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, y=1 - 0.06 / height, va="top").set_in_layout(False)
    for i, line in enumerate(lines):
        figure.text(
            0.5, 1 - (0.34 + INCHES_PER_LINE * i) / height, line, ha="center", va="top", fontsize=8, color="#444444"
        )
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, FOOTER_HEIGHT, 1, 1 - FOOTER_HEIGHT - top / height))  # type: ignore[call-arg]
    name = literal(name, int(width * CHARS_PER_INCH * 0.8))
    figure.text(0.995, 0.005, name, ha="right", va="bottom", fontsize=9, color=GREY)
    return figure


def literal(text: object, max_chars: int = MAX_LABEL) -> str:
    r"""Return ``text`` for matplotlib to draw as it is: ``$`` starts no formula, what is long is cut.

    Characters that no font of ``rcParams["font.family"]`` has stand as their codes: they would all be the same box.

    >>> literal("$1_$2"), literal("x" * 30, 8), literal("日本")
    ('\\$1_\\$2', 'xxxxxxx…', '\\u65e5\\u672c')
    """
    words = shortened(text, max_chars).replace("$", r"\$")
    if words.isascii():
        return words
    known = _glyphs(tuple(rcParams["font.family"]), tuple(rcParams["font.sans-serif"]))
    return "".join(c if ord(c) in known else c.encode("unicode_escape").decode() for c in words)


@cache
def _glyphs(families: tuple[str, ...], sans_serif: tuple[str, ...]) -> frozenset[int]:
    """Return the codes of all characters that at least one of these fonts can draw."""
    found: set[int] = set()
    for family in dict.fromkeys(name for f in families for name in (sans_serif if f == "sans-serif" else (f,))):
        with suppress(ValueError):  # not installed
            path = fontManager.findfont(FontProperties(family=[family]), fallback_to_default=False)
            found.update(get_font(path).get_charmap())
    return frozenset(found)


def shortened(text: object, max_chars: int = MAX_LABEL) -> str:
    """Return ``text`` cut to so many characters, with spaces for what cannot be printed."""
    words = "".join(c if c.isprintable() else " " for c in str(text))
    return words if len(words) <= max_chars else f"{words[: max_chars - 1]}…"


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the path's suffix, png, pdf or svg, and return the path.

    The same figure makes the same bytes; the fonts are part of a PDF file.
    """
    if path.suffix == ".png":
        _print(figure, path)
        return path
    undated = {"CreationDate": None} if path.suffix == ".pdf" else {"Date": None}
    with rc_context({"pdf.fonttype": 42, "svg.hashsalt": "bpx"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(path, metadata=undated, dpi=2 * DPI)  # of what is no vector: heat maps
    return path


def _print(figure: Figure, file: Path | BinaryIO) -> None:
    figure.set_dpi(DPI)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # of a label in another script
        # savefig draws everything twice, the first time to find a layout that drawing finds anyway
        figure.canvas.print_png(file, pil_kwargs={"compress_level": 1})  # type: ignore[attr-defined]


def save_all(
    figures: Mapping[str, Callable[[], Figure | None]],
    folder: Path,
    failed: dict[str, str] | None = None,
    suffix: str = "png",
) -> list[Path]:
    """Draw each figure into ``folder`` under its name and ``suffix``, and return the paths; None is no figure.

    ``failed`` takes the error of each figure that cannot be drawn, in one line; without it the error is raised.
    """
    paths = []
    for name, draw in figures.items():
        with noting_failure(failed, name):
            figure = draw()
            if figure is not None:
                paths.append(save(figure, folder / f"{name}.{suffix}"))
    return paths


@contextmanager
def noting_failure(failed: dict[str, str] | None, name: str) -> Iterator[None]:
    """Note in ``failed``, in one line, why ``name`` could not be drawn or written; without ``failed`` raise it.

    An OSError, which is of the disk and not of the figure, is always raised.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if failed is None:
            raise
        failed[name] = f"{type(error).__name__}: {shortened(' '.join(str(error).split()), 200)}"


def style_axes(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Label the axes, take the frame's upper and right sides away, and draw a light grid."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10, y=1.0)  # told where, it need not be looked for: a tenth of the time
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def dots(n: int) -> str:
    """Return the marker for a line of ``n`` points: dots while they can be told apart."""
    return "." if n <= 40 else ""


def legend_below(axes: Axes, columns: int) -> None:
    """Put the legend under the axes, where it hides no data."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns, fontsize=8, frameon=False)


def figure_legend(figure: Figure, panels: Iterable[Axes], columns: int) -> None:
    """Put one legend under all the panels, above the line that names the data."""
    pairs = (zip(*axes.get_legend_handles_labels(), strict=True) for axes in panels)
    named = {label: handle for handles in pairs for handle, label in handles}
    figure.legend(
        named.values(), named.keys(), loc="outside lower center", borderaxespad=1.5,
        ncols=columns, fontsize=8, frameon=False,
    )  # fmt: skip


def positive(values: ArrayLike) -> Values:
    """Return the values with NaN in place of what a log axis cannot show."""
    x = np.asarray(values, float)
    return np.where((x > LOG_AXIS_MIN) & (x < LOG_AXIS_MAX), x, np.nan)


def widen_flat(axes: Axes, values: ArrayLike) -> None:
    """Give values that differ by less than 2 % an axis on which they look level."""
    good = np.asarray(values, float)
    good = good[np.isfinite(good)]
    if good.size and 0 < good.max() - good.min() < (around := 0.02 * abs(good).max()):
        axes.set_ylim(good.min() - around, good.max() + around)


def log_y(axes: Axes, values: ArrayLike) -> None:
    """Make the y axis logarithmic if any value is positive, with plain numbers where it spans little."""
    good = positive(values)
    good = good[np.isfinite(good)]
    if good.size == 0:
        axes.text(0.5, 0.6, NOTHING, transform=axes.transAxes, ha="center", color=GREY, fontsize=9)
        axes.set_yticks([])
        return
    axes.set_yscale("log")
    decades = np.log10(good.max()) - np.log10(good.min())  # the ratio itself may overflow
    axes.yaxis.set_major_locator(LogLocator(numticks=9))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: power(y)))
    axes.yaxis.set_minor_locator(NullLocator())  # hundreds of small ticks cost more than the figure
    if decades < MIN_DECADES:
        axes.set_ylim(0.95 * good.min(), 1.05 * good.max())
    if decades < 2:
        few = MaxNLocator(6) if decades < 0.7 else LogLocator(subs=(1, 2, 5), numticks=20)
        axes.yaxis.set_major_locator(few)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def power(y: float) -> str:
    """Return a power of ten as text; matplotlib's own goes through a parser of formulas, at some 10 ms a figure."""
    return "10" + f"{np.log10(y):.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")) if y > 0 else "0"


def log10(values: ArrayLike) -> Values:
    """Return log10 of the positive finite values, NaN elsewhere."""
    return np.log10(positive(values))


def ranges(values: ArrayLike) -> bool:
    """Return whether the finite values are positive and span more than a factor of 30: a log axis then shows more."""
    good = np.asarray(values, float)
    good = good[np.isfinite(good)]
    return bool(good.size and good.min() > 0 and good.max() / 30 > good.min())


def colours(n: int) -> list[str]:
    """Return ``n`` colours to tell things apart by: the palette; of more things, shades that grow lighter."""
    return list(PALETTE[:n]) if n <= len(PALETTE) else shades(n)


def shades(n: int, name: str = "viridis") -> list[str]:
    """Return ``n`` colours from a map, first to last."""
    return [to_hex(c) for c in colormaps[name](np.linspace(0, 0.9, n))]
