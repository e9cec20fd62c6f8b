"""A study: does balancing forward and reverse KL calibrate a student, and what does it cost?

    python -m tests.studies.bdkd --output FOLDER

A student and a larger teacher learn scikit-learn's handwritten digits from scratch together, from
labels of which a third are wrong: a student of 64 hidden units, which learns wrong labels by heart
if it is let, and one of 12, which cannot. Each row of a table is another objective of the student;
the teacher's is the same wherever there is one. Every seed draws the split, the wrong labels, the
weights and the order anew, and each figure has its standard error over seeds.

Accuracy is that against the true labels of the held-out images. Confidence and likelihood (ECE over
15 bins, NLL) are measured against labels as they were trained on, a third of them wrong, since it
is those that a confidence is about; they are not drawn, but weighed by their chances. Networks are
measured as they are, at temperature 1; "scaled" is the student over the temperature with the least
ECE on one half of the held-out images (their labels drawn), measured on the other. "Surer by" is
the mean confidence less the accuracy that it should have been: above 0 a student is too sure.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from kdlight import DistillationModule, Learner, OnlineDistillationModule, SingleInput
from kdlight.data import DigitsDataModule
from kdlight.metrics import (
    ExpectedCalibrationError,
    TemperatureCurve,
    predictions,
)
from kdlight.models.digits import TinyNet
from kdlight.modules import StandaloneModule
from kdlight.objectives import (
    BDKD,
    CrossEntropy,
    ForwardKL,
    Objective,
    ReverseKL,
    SymmetricKL,
    Weighted,
)
from tests.studies.bdkd_report import Figures, draw, report

NOISE, HELD_OUT, BATCH, EPOCHS = 1 / 3, 0.4, 64, 40
STUDENTS, TEACHER, LR, TEMPERATURE = (64, 12), 256, 1e-2, 2.0
T: dict[str, Any] = {"temperature": TEMPERATURE}


def both(kd: Objective, weight: float = 1.0) -> Objective:
    return Weighted({"ce": CrossEntropy(), "kd": kd}, {"kd": weight})


# the weight of the sums undoes the halves of SymmetricKL, and meets that of BD-KD on the average
METHODS: dict[str, Callable[[], Objective]] = {
    "cross-entropy alone": CrossEntropy,
    "forward KL": lambda: both(ForwardKL(**T)),
    "reverse KL": lambda: both(ReverseKL(**T)),
    "forward + reverse": lambda: both(SymmetricKL(**T), 2.0),
    "2 forward + 2 reverse": lambda: both(SymmetricKL(**T), 4.0),
    "mutual learning of two students": lambda: both(ForwardKL(**T)),
    "BD-KD, 2 and 1": lambda: both(BDKD(high=2.0, **T)),
    "BD-KD, 3 and 1": lambda: both(BDKD(high=3.0, **T)),
    "BD-KD reversed, 3 and 1": lambda: both(BDKD(high=1.0, low=3.0, **T)),
}


def data(seed: int) -> dict[str, Tensor]:
    """Images, their true labels, and labels of which some are wrong, of both parts."""
    digits = DigitsDataModule(validation_fraction=HELD_OUT, seed=seed)
    digits.setup()
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for part, images in (("train", digits.train_images), ("test", digits.validation_images)):
        assert images is not None
        x, true = images.tensors
        wrong = (true + torch.randint(1, 10, true.shape, generator=generator)) % 10
        noisy = torch.where(torch.rand(true.shape, generator=generator) < NOISE, wrong, true)
        found |= {f"{part}_x": x, f"{part}_true": true, f"{part}_noisy": noisy}
    return found


def build(method: str, width: int) -> StandaloneModule:
    """A student of ``width`` hidden units, and what it learns with."""
    objective = METHODS[method]()

    def optimizer(groups: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=LR)

    student = SingleInput(TinyNet(width=width))
    if "teacher" not in objective.needs:
        return DistillationModule(student, objective, optimizer=optimizer)
    alike = "mutual" in method
    peer = Learner(
        SingleInput(TinyNet(width=width if alike else TEACHER)),
        both(ForwardKL(**T)),
        group=None if alike else {"lr": LR / 10},
    )
    learners = {"student": Learner(student, objective), "peer" if alike else "teacher": peer}
    return OnlineDistillationModule(learners, optimizer=optimizer)


def run(job: tuple[int, str, int]) -> Figures:
    """Train once, and measure the student on the held-out images."""
    width, method, seed = job
    torch.set_num_threads(1)
    given = data(seed)
    torch.manual_seed(seed)
    module = build(method, width)
    # nothing reads the log, which would take half of the time
    module.log = module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    images = TensorDataset(given["train_x"], given["train_noisy"])
    batches = BatchSampler(RandomSampler(images), BATCH, drop_last=False)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(images, sampler=batches, batch_size=None))
    module.eval()
    with torch.no_grad():
        logits = module.student((given["test_x"],)).logits()
        teacher = getattr(module, "teacher", None)
        beside = None if teacher is None else teacher((given["test_x"],)).logits()
    return measure(logits, given["test_true"], given["test_noisy"], beside)


def measure(logits: Tensor, true: Tensor, noisy: Tensor, teacher: Tensor | None) -> Figures:
    """All figures of a student; ``noisy`` labels serve to find its best temperature."""
    first, second = slice(None, None, 2), slice(1, None, 2)
    temperatures = torch.logspace(-1, 1, 201).tolist()
    curve = TemperatureCurve(temperatures)
    curve.update(logits[first], noisy[first])
    best = temperatures[int(curve.compute()["ece"].argmin())]
    confidence, correct = predictions(logits, true)
    figures = {
        "accuracy": correct.float().mean().item(),
        "ece": ece(logits, true),
        "surer": (confidence - chance(correct)).mean().item(),
        "scaled_ece": ece(logits[second] / best, true[second]),
        "true_ece": ece(logits, true, noise=0.0),
        "nll": -(labels_as_trained(true) * logits.log_softmax(-1)).sum(-1).mean().item(),
    }
    if teacher is not None:
        figures["teacher_accuracy"] = predictions(teacher, true)[1].float().mean().item()
        figures["teacher_ece"] = ece(teacher, true)
    return figures


def chance(correct: Tensor, noise: float = NOISE) -> Tensor:
    """The chance that a label as they were trained on agrees with a prediction."""
    return torch.where(correct, 1 - noise, noise / 9)


def labels_as_trained(true: Tensor) -> Tensor:
    return chance(torch.nn.functional.one_hot(true, 10).bool())


def ece(logits: Tensor, true: Tensor, noise: float = NOISE) -> float:
    confidence, correct = predictions(logits, true)
    metric = ExpectedCalibrationError()
    metric.update(confidence, chance(correct, noise))
    return metric.compute().item()


def main() -> None:
    """Run every method on every seed, and write what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("study_bdkd"))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    start, seeds = time.perf_counter(), range(options.seeds)
    jobs = [(width, method, seed) for width in STUDENTS for method in METHODS for seed in seeds]
    with ProcessPoolExecutor(options.workers, get_context("spawn"), initializer=quiet) as pool:
        found = dict(zip(jobs, pool.map(run, jobs), strict=True))
    results = {
        width: {method: [found[width, method, seed] for seed in seeds] for method in METHODS}
        for width in STUDENTS
    }
    text = "\n".join(report(width, by_method) for width, by_method in results.items())
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "bdkd.md").write_text(text, encoding="utf-8")
    draw(results, options.output / "bdkd.svg")
    print(text)
    print(f"{len(jobs)} runs in {time.perf_counter() - start:.0f} s: {options.output / 'bdkd.md'}")


def quiet() -> None:
    """Nothing but results from a worker."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
