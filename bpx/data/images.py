"""MNIST, Fashion-MNIST and scikit-learn's digits."""

from __future__ import annotations

import http.client
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bpx.data import idx
from bpx.data.dataset import Array, DataError, Dataset, Raw, Source, split_80_20

log = logging.getLogger("bpx.data")
DIGITS = tuple("0123456789")


@dataclass(frozen=True, kw_only=True)
class _OpenMLImages(Source):
    """An image set of 60,000 + 10,000: from files, the cache, or OpenML.

    ``path`` is the folder of its files, or that folder's parent; ``subset`` uses only the first so many images
    and splits them 80/20; ``fallback`` is digits28 or null.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]
    sha256: ClassVar[str | None]

    path: str | None = None
    subset: int | None = None
    fallback: str | None = "digits28"
    scaling: str = "unit"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fallback not in (None, "digits28"):
            raise DataError(f"dataset.fallback must be digits28 or null, got {self.fallback}")
        if self.subset is not None and self.subset < 10:
            raise DataError(f"dataset.subset must be at least 10, got {self.subset}")

    def load(self, rng: np.random.Generator, dtype: np.dtype[Any]) -> Dataset:
        """Return the images, or loudly the fallback where they cannot be had."""
        found = self._find()
        if found is None:
            return self._fall_back(rng, dtype)
        images, where = found
        checksum = idx.digest(images)
        if self.sha256 is not None and checksum != self.sha256:
            raise DataError(
                f"{where} is damaged: its SHA-256 is {checksum[:12]}…, {self.name}'s is {self.sha256[:12]}…"
            )
        if self.name != "mnist" and checksum == MNIST.sha256:  # the files of both have the same names
            raise DataError(f"{where} holds MNIST, not {self.name}")
        x = np.concatenate([images[0], images[2]]).reshape(-1, idx.SIDE**2)
        y = np.concatenate([images[1], images[3]]).astype(np.int64)
        n_train = len(images[0])
        if self.subset is None:
            default = 5000 if n_train > 10000 else n_train // 12
            train, val = self.held_out(np.arange(n_train), default)
            test = np.arange(n_train, len(x))
        else:
            rows, test = split_80_20(min(self.subset, len(x)), seed=42)
            train, val = self.held_out(rows, 0)
        return Dataset(
            name=self.name,
            n_classes=10,
            class_names=self.class_names,
            image_shape=(idx.SIDE, idx.SIDE),
            sha256=checksum,
            source=where,
            **self.scaled(Raw(x, y, train, val, test), dtype, unit=(0.0, 255.0)),
        )

    def _find(self) -> tuple[idx.Images, str] | None:
        if self.path is not None:
            images = idx.find(Path(self.path), self.name)
            if images is None:
                raise DataError(f"dataset.path={self.path} holds no {self.name} files (IDX or {self.name}.npz)")
            return images, str(self.path)
        places = [Path(os.environ["BPX_DATA_DIR"])] if os.environ.get("BPX_DATA_DIR") else []
        for place in (*places, cache()):
            images = idx.find(place, self.name)
            if images is not None:
                return images, str(place)
        return self._download()

    def _download(self) -> tuple[idx.Images, str] | None:
        """Fetch from OpenML and keep a copy in the cache; None where it cannot be reached."""
        import socket
        import warnings

        from sklearn.datasets import fetch_openml

        before = socket.getdefaulttimeout()
        try:
            socket.setdefaulttimeout(10)
            log.info("fetching %s from OpenML", self.title)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its retries
                bunch = fetch_openml(
                    self.title,
                    version=1,
                    as_frame=False,
                    parser="liac-arff",  # the pandas parser breaks on unquoted classes with pandas 3
                    data_home=str(cache() / "openml"),
                    n_retries=1,
                    delay=0.5,
                )
        except (OSError, http.client.HTTPException, EOFError) as error:
            log.info("OpenML: %s", error)
            return None
        except Exception as error:  # the parser raises whatever the damage runs into
            raise DataError(f"OpenML's answer is damaged: {error or type(error).__name__}") from error
        finally:
            socket.setdefaulttimeout(before)
        x = np.asarray(bunch.data).astype(np.uint8).reshape(-1, idx.SIDE, idx.SIDE)
        y = np.asarray(bunch.target).astype(np.uint8)
        n = len(x) * 6 // 7
        images = idx.check((x[:n], y[:n], x[n:], y[n:]), "OpenML's answer")
        if self.sha256 is None or idx.digest(images) == self.sha256:
            target = cache() / self.name / f"{self.name}.npz"
            temporary = target.with_name(f"{target.name}.{os.getpid()}")
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("wb") as file:
                    arrays: dict[str, Any] = dict(zip(idx.KEYS, images, strict=True))
                    np.savez_compressed(file, **arrays)
                temporary.replace(target)
            except OSError as error:
                log.warning("%s cannot be cached: %s", self.name, error)
        return images, "OpenML"

    def _fall_back(self, rng: np.random.Generator, dtype: np.dtype[Any]) -> Dataset:
        wanted = f"{self.name} is neither under BPX_DATA_DIR nor in {cache()}, and OpenML does not answer"
        if self.fallback is None:
            raise DataError(f"{wanted}: give dataset.path")
        log.warning(
            "%s. RUNNING ON scikit-learn's 8x8 DIGITS SCALED TO 28x28 INSTEAD: results are not %s's. "
            "Give dataset.path for the real data, dataset.fallback=null to stop here.",
            wanted,
            self.name,
        )
        images, y = _digits()
        ramp = np.linspace(0, 7, idx.SIDE)
        low = np.minimum(ramp.astype(int), 6)
        part = ramp - low
        mix = np.zeros((8, idx.SIDE))
        mix[low, np.arange(idx.SIDE)] = 1 - part
        mix[low + 1, np.arange(idx.SIDE)] += part
        x = (np.einsum("ia,nij,jb->nab", mix, images, mix) * (255 / 16)).round()
        x = x.astype(np.uint8).reshape(len(x), -1)
        rows = np.arange(min(self.subset or len(x), len(x)))
        if self.subset is None:
            n_train = len(x) * 6 // 7
            train, val = self.held_out(rows[:n_train], n_train // 12)
            test = rows[n_train:]
        else:
            rows, test = split_80_20(len(rows), seed=42)
            train, val = self.held_out(rows, 0)
        return Dataset(
            name="digits28 (fallback)",
            n_classes=10,
            class_names=DIGITS,
            image_shape=(idx.SIDE, idx.SIDE),
            sha256=_hash(x, y),
            source="scikit-learn's digits, scaled to 28x28",
            fallback=True,
            **self.scaled(Raw(x, y, train, val, test), dtype, unit=(0.0, 255.0)),
        )


@dataclass(frozen=True, kw_only=True)
class MNIST(_OpenMLImages):
    """Handwritten digits, 28 x 28 (LeCun et al. 1998); the last 5,000 training images validate by default."""

    name = "mnist"
    title = "mnist_784"
    class_names = DIGITS
    sha256 = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"


@dataclass(frozen=True, kw_only=True)
class FashionMNIST(_OpenMLImages):
    """Articles of clothing, 28 x 28 (Xiao et al. 2017), verified by structure; the hash is recorded."""

    name = "fashion_mnist"
    title = "Fashion-MNIST"
    class_names = (
        *("T-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    )
    sha256 = None


@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """scikit-learn's own handwritten digits: 1,797 images of 8 x 8, split 80/20."""

    name: ClassVar[str] = "digits"

    def load(self, rng: np.random.Generator, dtype: np.dtype[Any]) -> Dataset:
        """Return the digits."""
        images, y = _digits()
        x = images.reshape(len(images), -1)
        rows, test = split_80_20(len(x), seed=42)
        train, val = self.held_out(rows, 0)
        return Dataset(
            name=self.name,
            n_classes=10,
            class_names=DIGITS,
            image_shape=(8, 8),
            sha256=_hash(x, y),
            source="scikit-learn's load_digits",
            **self.scaled(Raw(x, y, train, val, test), dtype, unit=(0.0, 16.0)),
        )


def cache() -> Path:
    """Return the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bpx"


def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target.astype(np.int64)


def _hash(*arrays: Array) -> str:
    import hashlib

    h = hashlib.sha256()
    for a in arrays:
        h.update(np.ascontiguousarray(a).data)
    return h.hexdigest()
