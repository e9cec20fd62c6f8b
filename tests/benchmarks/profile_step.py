"""Where the time of a step of the quick start goes, beside the products that it cannot do without.

``python -m tests.benchmarks.profile_step [--threads 2] [--steps 8] [--ops 6] [config options]``

The config runs as it is, for some steps, without logs, evaluation and reports. Each stage is a row:
its median time; the time of the bare matrix products of the same shapes, each measured by itself
(for the optimizer: of copying as many bytes as it reads and writes); and the operations that take
longest, from one more step under `torch.profiler`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.callbacks import AdaptiveTAID
from kdlight.cli import DistillationCLI
from tests.benchmarks.machine import header
from tests.benchmarks.step_stages import STAGES, OneStepMore, Stages

PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "aten::addmm_"}
WARMUP = 2


@contextmanager
def shapes_of(module: nn.Module) -> Iterator[list[tuple[int, int, int]]]:
    """Collect the sizes (rows, inputs, outputs) of the linear layers that are called meanwhile."""
    found: list[tuple[int, int, int]] = []

    def note(layer: nn.Linear, inputs: Any, output: Any) -> None:
        found.append((output.numel() // output.shape[-1], layer.in_features, layer.out_features))

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(note) for layer in layers]  # type: ignore[arg-type]
    yield found
    for hook in hooks:
        hook.remove()


def seconds_of(work: Callable[[], Any], repeats: int = 5) -> float:
    """The median seconds of a call, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def products(shapes: list[tuple[int, int, int]]) -> tuple[float, float]:
    """Seconds of the bare products of linear layers, forward and backward."""
    forward = backward = 0.0
    for (rows, inputs, outputs), count in Counter(shapes).items():
        x, w = torch.randn(rows, inputs), torch.randn(outputs, inputs)
        y = torch.randn(rows, outputs)
        forward += count * product_of(x, w.t(), torch.empty_like(y))
        backward += count * product_of(y, w, torch.empty_like(x))
        backward += count * product_of(y.t(), x, torch.empty_like(w))
    return forward, backward


def product_of(first: Tensor, second: Tensor, out: Tensor) -> float:
    """Seconds of one product."""
    return seconds_of(lambda: torch.mm(first, second, out=out))


def copying(numbers: int) -> float:
    """Seconds to read and write as AdamW does, four numbers in and three out for each weight."""
    source, target = torch.randn(2**26), torch.empty(2**26)
    return seconds_of(lambda: target.copy_(source)) / (2 * 2**26) * 7 * numbers


def limits(module: Any, batch: Any) -> dict[str, float]:
    """Seconds that the stages need at least."""
    teacher = module.teacher.networks()[0]
    with torch.no_grad():
        with shapes_of(teacher) as below:
            of_teacher = teacher(batch)
        with shapes_of(module.student) as mine:
            of_student = module.student(batch)
    rows = int((batch["labels"][:, 1:] != -100).sum())
    heads = [(rows, each.hidden.shape[-1], each.shape[-1]) for each in (of_teacher, of_student)]
    forward, backward = products(mine)
    student_head = products(heads[1:])
    weights = sum(p.numel() for p in module.student.parameters() if p.requires_grad)
    return {
        "teacher": products(below)[0],
        "student": forward,
        "loss": products(heads[:1])[0] + sum(student_head),
        "backward": backward,
        "optimizer": copying(weights),
    }


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--ops", type=int, default=6, help="operations to name for a stage")
    options, others = parser.parse_known_args(arguments)
    torch.set_num_threads(options.threads)
    sys.argv = sys.argv[:1]  # Lightning warns of arguments that it is not to read
    stages, last = Stages(), OneStepMore(WARMUP + options.steps)

    class StagesCLI(DistillationCLI):
        def before_fit(self) -> None:
            trainer: Any = self.trainer
            kept = [each for each in trainer.callbacks if isinstance(each, AdaptiveTAID)]
            trainer.callbacks = [*kept, stages, last]

    cli = StagesCLI(
        [
            "fit",
            f"--config={options.config}",
            f"--trainer.max_steps={last.last + 1}",
            "--trainer.logger=false",
            "--trainer.limit_val_batches=0",
            "--trainer.enable_checkpointing=false",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
            *others,
        ],
        save_config_callback=None,
    )
    batch = next(iter(cli.datamodule.train_dataloader()))
    report(stages, last, limits(cli.model, batch), options)


def report(stages: Stages, last: OneStepMore, least: dict[str, float], options: Any) -> None:
    """Print a row for each stage, and the operations that take longest."""
    medians = {
        stage: 1e3 * statistics.median(times[WARMUP:-1]) for stage, times in stages.seconds.items()
    }
    medians["rest"] = medians["whole"] - sum(medians[stage] for stage in STAGES)
    operations = last.operations()
    loss = operations["loss"]
    share = sum(loss[name] for name in PRODUCTS) / max(sum(loss.values()), 1)
    print(header())
    print("\n| stage | ms | products alone, ms | above | longest operations, ms |")
    print("| --- | --: | --: | --: | --- |")
    for stage in (*STAGES, "rest", "whole"):
        limit = 1e3 * (sum(least.values()) if stage == "whole" else least.get(stage, 0.0))
        above = f"{medians[stage] / limit - 1:+.0%}" if limit else ""
        longest = (
            ""
            if stage == "whole"
            else "; ".join(
                f"{name.removeprefix('aten::')} {duration / 1e3:.1f}"
                for name, duration in operations[stage].most_common(options.ops)
            )
        )
        shown = f"{limit:.1f}" if limit else ""
        print(f"| {stage} | {medians[stage]:.1f} | {shown} | {above} | {longest} |")
    print(f"\nProducts are {share:.0%} of the loss, in the step that was profiled.")


if __name__ == "__main__":
    main()
