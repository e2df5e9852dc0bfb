"""Labels and targets: classes, whose labels never pass through float64, or numbers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import numpy as np

from bpx.data.table import INTEGER, WRITTEN, numbers
from bpx.engine.arrays import Array
from bpx.engine.features import exact

TASKS = ("auto", "classification", "regression")
FEW = 20  # whole numbers written with a point may be classes if so few differ, or
SHARE = 0.1  # at most this share of the samples
REGRESSION = "give dataset.task=regression for numbers, dataset.task=classification for classes"


@dataclass(frozen=True)
class Values:
    """The values of a label or target: what differs, and which of these each sample has.

    Attributes
    ----------
    names : list of str
        The different values, in order.
    codes : array of int64 (rows,)
        The position of each sample's value in ``names``.
    kind : str
        "words", "integers", "decimals" (whole numbers that are written or kept as floats) or "numbers".
    """

    names: list[str]
    codes: Array
    kind: str


def values(column: Array) -> Values:
    """Return the different values of ``column`` (rows,): words, bytes, booleans, integers or floats.

    Whole numbers are one value however they are written (1 and 1.0), but for integers that are words: 01067 is not
    1067. Raises ValueError where a value is missing or not finite.
    """
    codes: Array
    if column.dtype.kind == "O":
        import pandas as pd

        codes, found = pd.factorize(column)
        words = [str(value) for value in found]
        floats = False
    else:
        different, codes = np.unique(column, return_inverse=True)
        words, floats = [_word(value) for value in different.tolist()], column.dtype.kind == "f"
    keys, kind = _keys(words)
    if floats and kind == "integers":
        kind = "decimals"
    order = sorted(set(keys), key=_order)
    position = {key: i for i, key in enumerate(order)}
    recoded = np.array([position[key] for key in keys], np.int64)
    return Values([str(key) for key in order], recoded[np.reshape(codes, -1)], kind)


def task(asked: str, given: str | None, found: Values, key: str = "") -> str:
    """Return "classification" or "regression"; raises ValueError if the column does not decide it.

    Parameters
    ----------
    asked : str
        dataset.task: auto, classification or regression.
    given : str or None
        "label" or "target" where the user names the column by that key.
    found : Values
        What the column holds.
    key : str
        What the file calls the column.
    """
    n, different = len(found.codes), len(found.names)
    if asked == "regression" or (asked == "auto" and given == "target"):
        if found.kind == "words":
            way = "task=classification" if asked == "regression" else f"label={key}"
            raise ValueError(f"{_no_number(found)}; give dataset.{way} for classes")
        return "regression"
    if found.kind == "numbers":
        value = next(name for name in found.names if not INTEGER.fullmatch(name))
        if asked == "auto" and given is None:
            return "regression"
        raise ValueError(f"{value} is no class; give dataset.task=regression for numbers")
    if asked == "classification":
        return "classification"
    many = different > max(2, n / 2)
    if found.kind == "words":
        if many:
            raise ValueError(
                f"{different} different words in {n} samples are too many for classes: "
                f"give dataset.task=classification if they are; {_no_number(found)}"
            )
        return "classification"
    if found.kind == "decimals" and given is None and different > max(FEW, SHARE * n):
        return "regression"
    if many:
        raise ValueError(f"{different} different integers in {n} samples are too many for classes: {REGRESSION}")
    return "classification"


def classes(found: Values, n_classes: int | None) -> tuple[Array, tuple[str, ...]]:
    """Return labels from 0 on, int64 (rows,), and what the classes are called.

    With ``n_classes`` the labels are the integers from 0 to n_classes - 1. Raises ValueError.
    """
    if n_classes is None:
        if len(found.names) < 2:
            raise ValueError(f"all labels are {found.names[0]}; at least two classes are needed")
        return found.codes, tuple(found.names)
    for name in found.names:
        if not INTEGER.fullmatch(name) or not 0 <= int(name) < n_classes:
            raise ValueError(f"the label {name} is outside the classes 0 to {n_classes - 1}")
    labels = np.array([int(name) for name in found.names], np.int64)
    return labels[found.codes], tuple(str(k) for k in range(n_classes))


def one_hot(y: Array) -> Array | None:
    """Return the labels (rows,) of ``y`` (rows, classes) with one 1 in each row and zeros beside it, else None."""
    if y.ndim != 2 or y.shape[1] < 2 or y.dtype.kind not in "biuf":
        return None
    if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
        return None
    return np.asarray(y.argmax(axis=1))


def _no_number(found: Values) -> str:
    """Name a word that is no number, and say how to write it where it is one as people write them."""
    word = next(name for name in found.names if not _is_number(name))
    how = " (write it with digits, a point and an exponent alone)" if WRITTEN.fullmatch(word) else ""
    return f"{word!r} is no number{how}"


def _word(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return str(int(value))
    return str(value)


def _keys(words: list[str]) -> tuple[list[str], str]:
    """Return what tells values apart, for each word, and what kind they all are."""
    for word in words:
        if word == "":
            raise ValueError("a value is empty")
    if all(INTEGER.fullmatch(word) for word in words):
        return list(words), "integers"
    if not all(_is_number(word) or word.lower().lstrip("+-") in ("nan", "inf", "infinity") for word in words):
        return list(words), "words"
    for word in words:
        if not _is_number(word):
            raise ValueError(f"{word!r} is no class and no number")
    keys: list[str] = []
    for word in words:
        number = Decimal(word)
        whole = abs(number) < Decimal(10) ** 30 and number == number.to_integral_value()
        keys.append(str(int(number)) if whole else str(number.normalize()))
    return keys, "decimals" if all(INTEGER.fullmatch(key) for key in keys) else "numbers"


def _is_number(word: str) -> bool:
    try:
        return "_" not in word and Decimal(word).is_finite()
    except InvalidOperation:
        return False


def _order(key: str) -> tuple[int, Decimal, str]:
    return (0, Decimal(key), key) if _is_number(key) else (1, Decimal(0), key)


def target_numbers(column: Array) -> Array:
    """Return the numbers of a target as float64 (rows, outputs); raises ValueError where one is none."""
    found = numbers(column) if column.dtype.kind == "O" else exact(column)
    if not np.isfinite(found).all():
        row = int(np.argwhere(~np.isfinite(found))[0][0])
        raise ValueError(f"the target has NaN or Inf, first in sample {row}")
    return found.reshape(len(found), -1)
