"""The callback for the Hugging Face Trainer (extra ``transformers``): watch a model while the Trainer trains it."""

from __future__ import annotations

from typing import Any, final

from transformers import TrainerCallback

from bpx.torch.watching import watch


@final
class BpxCallback(TrainerCallback):  # type: ignore[misc]
    """Watch the model that is trained; the numbers that the Trainer logs come along.

    ``settings`` are those of ``bpx.torch.watch``; ``steps_per_epoch``, ``accumulate`` and ``scaler`` are the Trainer's.
    ``watched`` is the watch, with its ``directory``, ``finding`` and ``nonfinite``.
    The Trainer tells a callback of no exception: where one is raised, ``close`` writes the record.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.watched: watch | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Open the record."""
        wrapped = more["optimizer"]  # by accelerate
        settings = {
            "steps_per_epoch": max(1, round(state.max_steps / max(state.num_train_epochs, 1))),
            "accumulate": int(args.gradient_accumulation_steps),
            "scaler": getattr(wrapped, "scaler", None),
        }
        optimizer = getattr(wrapped, "optimizer", wrapped)
        self.watched = watch(more["model"], optimizer, **(settings | self.settings)).__enter__()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **more: Any) -> None:
        """Keep what the Trainer logs, for the next step that is measured."""
        if self.watched is not None and logs:
            names = {"loss": "cost/train", "eval_loss": "cost/val"}
            numbers = {key: value for key, value in logs.items() if isinstance(value, (int, float))}
            self.watched.log({names.get(key, key): float(value) for key, value in numbers.items()})

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Write the record."""
        self.close()

    def close(self) -> None:
        """Write the record, once."""
        if self.watched is not None and not self.watched.closed:
            self.watched.__exit__(None, None, None)
