"""Image sets from OpenML, with a copy in the user's cache."""

from __future__ import annotations

import http.client
import logging
import os
import socket
import warnings
from pathlib import Path

import numpy as np

from bpx.data import idx
from bpx.data.dataset import DataError, digest
from bpx.system.files import replaced

log = logging.getLogger("bpx.data")


def cache() -> Path:
    """Return the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bpx"


def download(name: str, title: str, sha256: str | None) -> tuple[idx.Images, str] | None:
    """Fetch an image set and keep a copy in the cache, where its checksum is right; None where OpenML is not reached.

    Raises DataError where what OpenML answers is damaged.
    """
    from sklearn.datasets import fetch_openml

    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(10)
        log.info("fetching %s from OpenML", title)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its retries
            bunch = fetch_openml(
                title,
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
    if sha256 is None or digest(*images) == sha256:
        _keep(name, images)
    return images, "OpenML"


def _keep(name: str, images: idx.Images) -> None:
    target = cache() / name / f"{name}.npz"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replaced(target) as file:
            np.savez_compressed(file, allow_pickle=False, **dict(zip(idx.KEYS, images, strict=True)))
    except OSError as error:
        log.warning("%s cannot be cached: %s", name, error)
