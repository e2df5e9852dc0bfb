"""TensorBoard: the run as event files in its directory, which ``tensorboard --logdir outputs`` shows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from bpx.records import Outcome
from bpx.system.text import masked
from bpx.tracking.beside import TrackerBeside


@final
@dataclass
class TensorBoard(TrackerBeside):
    """Write scalars, pictures and texts as TensorBoard's event files.

    Attributes
    ----------
    folder
        Where they go in the run directory.
    flush_secs
        So many seconds later at most, a number can be seen.
    """

    package: ClassVar[str] = "tensorboard"

    folder: str = "tensorboard"
    flush_secs: float = 5.0

    def begin(self, directory: Path, name: str, params: Mapping[str, object]) -> None:
        """Open a new event file: TensorBoard shows all of a directory as one run."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(directory / self.folder), flush_secs=self.flush_secs)
        if params:
            rows = "".join(f"\n| {key} | {masked(str(value))} |" for key, value in params.items())
            self.tag("configuration", f"{name}\n\n| key | value |\n|---|---|{rows}")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep each metric as a scalar."""
        self._add(step, [{"tag": key, "simple_value": value} for key, value in metrics.items()])

    def tag(self, key: str, value: str) -> None:
        """Keep a text."""
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text.metadata import create_summary_metadata

        tensor = TensorProto(dtype=DT_STRING, string_val=[value.encode()], tensor_shape=TensorShapeProto())
        about = create_summary_metadata(display_name=key, description="")
        self._add(0, [{"tag": key, "tensor": tensor, "metadata": about}])

    def image(self, path: Path, key: str, step: int) -> None:
        """Keep a picture."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(path) as picture:
            width, height = picture.size
        image = Summary.Image(encoded_image_string=path.read_bytes(), width=width, height=height, colorspace=4)
        self._add(step, [{"tag": key, "image": image}])

    def end(self, outcome: Outcome | None) -> None:
        """Close the event file."""
        self._writer.close()

    def _add(self, step: int, values: list[dict[str, Any]]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(**value) for value in values])
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
