"""The callback for Lightning (extra ``lightning``): watch a LightningModule while its Trainer fits it."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from bpx.torch.watching import watch


@final
class BpxCallback(Callback):  # type: ignore[misc]
    """Watch the module that is fitted, on the Trainer's first optimizer; metrics that it logs come along.

    ``settings`` are those of ``bpx.torch.watch``; ``steps_per_epoch``, ``accumulate`` and ``scaler`` are the Trainer's.
    ``watched`` is the watch, with its ``directory``, ``finding`` and ``nonfinite``.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.watched: watch | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the record."""
        batches = int(trainer.accumulate_grad_batches)
        settings: dict[str, Any] = {
            "accumulate": batches,
            "scaler": getattr(trainer.precision_plugin, "scaler", None),
        }
        if math.isfinite(trainer.num_training_batches):  # an iterable data set tells no length
            settings["steps_per_epoch"] = max(1, math.ceil(trainer.num_training_batches / batches))
        self.watched = watch(pl_module, trainer.optimizers[0], **(settings | self.settings)).__enter__()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin a step: ``training_step`` may call parts of the module."""
        if self.watched is not None:
            self.watched.begin(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Any) -> None:
        """Keep the loss, which the Trainer has divided by the number of accumulated batches, and scaled."""
        if self.watched is not None:
            scaler = self.watched.scaler
            scale = 1.0 if scaler is None else scaler.scale(torch.ones_like(loss.detach()))
            self.watched.log({"cost/train": loss.detach() * self.watched.accumulate / scale})

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep what the module has logged, for the next step that is measured."""
        if self.watched is not None:
            self.watched.log(trainer.callback_metrics)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record."""
        self._close(None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the record of a fit that was broken off."""
        self._close(exception)

    def _close(self, error: BaseException | None) -> None:
        if self.watched is not None and not self.watched.closed:
            self.watched.__exit__(None if error is None else type(error), error, None)
