"""Callbacks that divide a training step into stages, and profile one."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Any

from lightning.pytorch import Callback
from torch.profiler import ProfilerActivity, profile, record_function

STAGES = ("teacher", "student", "loss", "backward", "normalize and clip", "optimizer")


class Stages(Callback):
    """Times the stages of each step by hooks on what they call."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.shapes: Counter[tuple[int, int, int]] = Counter()
        self.open: dict[str, tuple[float, Any]] = {}
        self.hooks: list[Any] = []

    def begin(self, stage: str) -> None:
        """Start a stage."""
        named = record_function(f"stage {stage}")
        named.__enter__()
        self.open[stage] = (time.perf_counter(), named)

    def end(self, stage: str) -> None:
        """End a stage, if it was started."""
        if stage in self.open:
            start, named = self.open.pop(stage)
            self.seconds[stage].append(time.perf_counter() - start)
            named.__exit__(None, None, None)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        parts = {"teacher": pl_module.teacher.networks()[0], "student": pl_module.student}
        for stage, module in {**parts, "loss": pl_module.objective}.items():
            self.hooks += [
                module.register_forward_pre_hook(lambda *_, stage=stage: self.begin(stage)),
                module.register_forward_hook(lambda *_, stage=stage: self.end(stage)),
            ]
        # Lightning calculates the gradients within the step of the optimizer
        optimizer = trainer.optimizers[0]
        self.hooks += [
            optimizer.register_step_pre_hook(lambda _, args, kwargs: self._split(args, kwargs)),
            optimizer.register_step_post_hook(lambda *_: self.end("optimizer")),
        ]

    def _split(self, args: Any, kwargs: Any) -> Any:
        closure = kwargs["closure"] if "closure" in kwargs else args[1]

        def wrapped() -> Any:
            result = closure()
            self.end("normalize and clip")
            self.begin("optimizer")
            return result

        return args[:1], {**kwargs, "closure": wrapped}

    def on_before_backward(self, *args: Any) -> None:
        self.begin("backward")

    def on_after_backward(self, *args: Any) -> None:
        self.end("backward")
        self.begin("normalize and clip")

    def on_train_batch_start(self, *args: Any) -> None:
        self.begin("whole")

    def on_train_batch_end(self, *args: Any) -> None:
        self.end("whole")


class OneStepMore(Callback):
    """Profiles the last step."""

    def __init__(self, last: int) -> None:
        self.last, self.profile = last, profile(activities=[ProfilerActivity.CPU])

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.last:
            self.profile.start()

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.last + 1:
            self.profile.stop()

    def operations(self) -> dict[str, Counter[str]]:
        """Microseconds of each operation without those that it calls, by stage."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for event in self.profile.events() or []:
            parent = event
            while parent is not None and not parent.name.startswith("stage "):
                parent = parent.cpu_parent
            stage = "rest" if parent is None else parent.name.removeprefix("stage ")
            found[stage][event.name] += event.self_cpu_time_total
        return found
