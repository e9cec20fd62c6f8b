"""Calibrate the teacher before the distillation starts."""

from __future__ import annotations

from typing import Any
from weakref import ref

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng

from kdlight.callbacks.calibration_checks import check_calibration, check_target
from kdlight.callbacks.temperature_search import (
    HIGH,
    LOW,
    Criterion,
    check_search,
    find_temperature,
)
from kdlight.distributed.batches import check_evaluation_batches
from kdlight.modules.base import DistillationBase
from kdlight.sources import LogitsSource, as_source


class CalibrateTeacherFirst(Callback):
    r"""Finds the temperature that calibrates the teacher, and distills at that temperature.

    .. math:: L = D\big(\operatorname{softmax}(z^S),\, \operatorname{softmax}(z^T / T^*)\big),
              \qquad T^* = \arg\min_T \mathrm{NLL}(z^T / T)
              \quad\text{or}\quad \arg\min_T \mathrm{ECE}(z^T / T)

    Shum et al., "FIRST: Teach A Reliable Large Language Model Through Efficient Trustworthy
    Distillation", 2024, recalibrates the teacher before the distillation, by the least expected
    calibration error on validation data. (They take the softmax of probabilities over a
    temperature, which the argument ``recalibrate`` of `kdlight.objectives.TopKForwardKL` offers;
    here it is that of logits.) Choose it for an overconfident teacher: a student that learns its
    distributions is overconfident as well.

    The temperature is found at the start of the training, before the first step, on the validation
    data of the fit. Wherever it stands in the list of callbacks, that is after
    `kdlight.callbacks.TrainTeacherFirst`, so a teacher that is trained in the same run is
    calibrated as it is then. From then on, the teacher's logits are divided by it in all inputs of
    the objective, in training and validation, for any objective and for live, cached and averaged
    teachers. A temperature of the objective divides both sides in addition, so that a student that
    matches the teacher is as confident as the calibrated one. After the fit the teacher is as it
    was.

    Of an average of teachers, the average is calibrated. Of a cached teacher, the k tokens and one
    outcome for all others are compared with the labels. Metrics of the teacher in validation
    (``val/teacher_ece``) are those of the calibrated one; a sanity check before the training is of
    the raw one. Data on which the teacher was trained make it look better than it is, and its
    temperature too low: validation data must be held out.

    The temperature is logged with every step as ``train/teacher_temperature``
    (``distillation/teacher_temperature`` by a `kdlight.DistillationMixin`), and saved in
    checkpoints: a run that is resumed uses it and does not search again. All ranks search together
    and use the same.

    Args:
        criterion: ``"nll"``, which is smooth and a proper score, or ``"ece"``, as published.
        bins: number of bins of the expected calibration error.

    Attributes:
        result: ``temperature``, and ``nll`` and ``ece`` of the teacher ``before`` and ``after``;
            None before the fit.

    Raises:
        ValueError: A criterion of another name, bins below 1. When a fit is set up: no validation
            data; a module without a teacher; an objective that needs none, that does not compare
            distributions, that reads several teachers apart, or that has another temperature for
            the teacher than for the student. At the search: no labels, labels of a regression, or
            a teacher with another tokenizer.

    Example:
        >>> CalibrateTeacherFirst(criterion="ece").result is None
        True
    """

    def __init__(self, criterion: Criterion = "nll", bins: int = 15) -> None:
        check_search(criterion, bins)
        self.criterion: Criterion = criterion
        self.bins = bins
        self.result: dict[str, Any] | None = None
        self._is_resumed = False
        self._module: ref[LightningModule] | None = None  # whose teacher is calibrated

    @property
    def temperature(self) -> float | None:
        """The teacher's temperature; None before it is found."""
        return None if self.result is None else self.result["temperature"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are a teacher to calibrate, an objective that uses it, and data."""
        if stage != "fit":
            return
        self._is_resumed = False
        check_calibration(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Forget the temperature of another run: that of the checkpoint is loaded after this."""
        self.result = None

    def state_dict(self) -> dict[str, Any]:
        """Return the temperature and how it was found."""
        return {"result": self.result}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the temperature."""
        self.result = state_dict["result"]
        self._is_resumed = self.result is not None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the temperature, unless the run is resumed or goes on, and set it."""
        assert isinstance(pl_module, DistillationBase)
        goes_on = self._module is not None and self._module() is pl_module
        if not (self._is_resumed or (goes_on and trainer.global_step > 0)):
            self._search(trainer, pl_module)
        self._module = ref(pl_module)
        assert self.temperature is not None
        pl_module.calibration_temperature = self.temperature

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log the temperature."""
        if not trainer.barebones:
            assert isinstance(pl_module, DistillationBase)
            key = f"{pl_module.log_prefix}/teacher_temperature"
            pl_module.log(key, pl_module.calibration_temperature)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the module the teacher as it was, after all that reports on the fit."""
        _restore(pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the module the teacher as it was."""
        _restore(pl_module)

    def _search(self, trainer: Trainer, module: DistillationBase) -> None:
        _load_validation_data(trainer)
        check_evaluation_batches(trainer)

        def logits(batch: Any) -> LogitsSource:
            source = module.teacher_logits(batch)
            assert source is not None
            source = as_source(source)
            check_target(source, batch)
            return source

        found = find_temperature(
            "CalibrateTeacherFirst",
            trainer,
            module,
            logits,
            criterion=self.criterion,
            bins=self.bins,
        )
        # sums of floating-point numbers may be rounded differently by the ranks
        self.result = trainer.strategy.broadcast(found)
        self._report()

    def _report(self) -> None:
        assert self.result is not None
        temperature, values = self.result["temperature"], self.result[self.criterion]
        rank_zero_info(
            f"CalibrateTeacherFirst: the {self.criterion} of the teacher is lowest at temperature"
            f" {temperature:.3f}: {values['before']:.4f} -> {values['after']:.4f}; the fit uses it"
        )
        if not LOW * 1.01 < temperature < HIGH / 1.01:
            rank_zero_warn(
                f"CalibrateTeacherFirst found a temperature of {temperature:.3f}, an end of what it"
                f" tries, {LOW:g} to {HIGH:g}: the teacher has all validation labels right, as"
                " where it was trained on them, or none; calibrate it on held-out data"
            )


def _load_validation_data(trainer: Trainer) -> None:
    """Load the validation data now, which Lightning does later for a fit that rarely validates."""
    if trainer.val_dataloaders is None:
        with isolate_rng():
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.setup_data()
            trainer.training = True


def _restore(module: LightningModule) -> None:
    if isinstance(module, DistillationBase):
        module.calibration_temperature = 1.0
