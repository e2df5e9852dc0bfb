"""Pictures of the layers while a run trains: drawn in a thread of their own, for at most 2 % of the training's time.

A run too short for that has those of its first and its last record when it has ended.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import final

from bpx.records import Rows
from bpx.system.files import Json
from bpx.tracking import Tracker

KEY, FOLDER = "layers", "live"
MAX_PICTURES, SHARE = 20, 0.02  # of a run; of the time of its training thread (sending takes half a hundredth more)
FIRST_COST = 0.75  # seconds of the processor that the first picture is expected to take, matplotlib's import included
log = logging.getLogger("bpx")


@final
class LivePictures:
    """Upload pictures of all layers while a run trains, one at a time, within the time budget.

    Attributes
    ----------
    seconds : float
        CPU time of drawing so far, matplotlib's import included.
    count : int
        Number of pictures drawn.
    """

    def __init__(self, directory: Path, tracker: Tracker, total_steps: int) -> None:
        self.seconds, self.count = 0.0, 0
        self._folder, self._tracker = directory / FOLDER, tracker
        self._every, self._next = max(1, total_steps // MAX_PICTURES), 0
        self._wanted = bool(tracker.figure_format) and tracker.takes_images
        self._cost, self._started = FIRST_COST, time.thread_time()
        self._first: int | None = None
        self._last: int | None = None
        self._drawn: set[int] = set()
        self._thread: threading.Thread | None = None

    def observe(self, step: int, rows: Rows, about: Json) -> None:
        """Start drawing the layers at ``step`` if a picture is due and the time budget allows it."""
        self._first, self._last = step if self._first is None else self._first, step
        due = self._wanted and step >= self._next and self.count < MAX_PICTURES
        if not due or (self._thread is not None and self._thread.is_alive()):
            return
        begin = time.thread_time()  # not the clock: where others use the processor, too, drawing costs as much as ever
        if self.seconds + self._cost <= SHARE * (begin - self._started):
            import bpx.figures.live  # noqa: F401  (here: a thread that imports beside this one meets half a module)

            self.seconds += time.thread_time() - begin
            self._next = step + self._every
            part = rows.excerpt({0, step}, about)
            self._thread = threading.Thread(target=self._draw, args=(step, part), daemon=True)
            self._thread.start()

    def close(self, rows: Rows, about: Json) -> None:
        """Wait for the picture in progress, and draw those of the first and the last record."""
        if self._thread is not None:
            self._thread.join()  # however long it takes: matplotlib cannot draw in two threads at once
            self._thread = None
        for step in (self._first, self._last):
            if self._wanted and step is not None and step not in self._drawn:
                self._draw(step, rows.excerpt({0, step}, about))

    def _draw(self, step: int, part: Rows) -> None:
        begin = time.thread_time()
        try:
            from bpx.figures.canvas import save
            from bpx.figures.live import layers_picture

            figure = layers_picture(part.records())
            if figure is not None:
                self._folder.mkdir(exist_ok=True)
                self._tracker.image(save(figure, self._folder / f"{KEY}-{step:06d}.png"), KEY, step)
                self.count += 1
                self._drawn.add(step)
        except Exception as error:  # the run is whole without it
            log.warning("the picture of step %d could not be drawn: %s", step, error)
            self._wanted = False
        self._cost = time.thread_time() - begin
        self.seconds += self._cost
