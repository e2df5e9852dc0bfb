"""The callback for Lightning (extra ``lightning``): watch a LightningModule while its Trainer fits it."""

from __future__ import annotations

from typing import Any, final

from lightning.pytorch import Callback, LightningModule, Trainer

from bpx.torch.watching import watch


@final
class BpxCallback(Callback):  # type: ignore[misc]
    """Watch the module that is fitted, on the Trainer's first optimizer; metrics that it logs come along.

    ``settings`` are those of ``bpx.torch.watch``; ``steps_per_epoch`` is the Trainer's. ``watched`` is the watch, with
    its ``directory``, ``finding`` and ``nonfinite``.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.watched: watch | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the record."""
        steps = int(trainer.num_training_batches) // int(trainer.accumulate_grad_batches)
        settings = {"steps_per_epoch": max(1, steps)} | self.settings
        self.watched = watch(pl_module, trainer.optimizers[0], **settings).__enter__()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin a step: ``training_step`` may call parts of the module."""
        if self.watched is not None:
            self.watched.begin(batch)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss and what the module has logged, for the next step that is measured."""
        if self.watched is not None:
            loss = outputs["loss"] if isinstance(outputs, dict) and "loss" in outputs else None
            known = {} if loss is None else {"cost/train": float(loss)}
            self.watched.log(known | {key: float(value) for key, value in trainer.callback_metrics.items()})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record."""
        self._close(None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the record of a fit that was broken off."""
        self._close(exception)

    def _close(self, error: BaseException | None) -> None:
        if self.watched is not None and not self.watched.closed:
            self.watched.__exit__(None if error is None else type(error), error, None)
