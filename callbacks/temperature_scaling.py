"""Temperature scaling: find the temperature at which a network is calibrated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from kdlight.callbacks.module_check import check_module
from kdlight.callbacks.temperature_search import Criterion, check_search, find_temperature
from kdlight.checkpoints import check_writable
from kdlight.modules import OnlineDistillationModule
from kdlight.modules.base import DistillationBase
from kdlight.sources import LogitsSource, as_source


class TemperatureScaling(Callback):
    r"""Finds the temperature of a network's logits that fits the validation data best.

    .. math:: T^* = \arg\min_T \mathrm{NLL}(z / T) \quad\text{or}\quad
              \arg\min_T \mathrm{ECE}(z / T)

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017, section 4.2.
    Division by a temperature changes no prediction. Comparing a student with a scaled student
    shows which part of its calibration comes from the distillation, and which a single number can
    achieve.

    At the end of every validation (of a fit, or of ``kdlight validate``) the network is evaluated
    on the validation data twice more: at 33 temperatures from 0.05 to 20, then at 33 around the
    best of them, which gives an accuracy of about 1 %. No logits are stored. The result is logged,
    saved with checkpoints, and written to ``temperature_NETWORK_CRITERION.json``. It is not applied
    to the network; `kdlight.callbacks.CalibrateTeacherFirst` applies one to the teacher of a fit.

    Args:
        network: ``"student"``, ``"teacher"``, or another network of an OnlineDistillationModule.
        criterion: ``"nll"``, which is smooth and a proper score, or ``"ece"``.
        bins: number of bins of the expected calibration error.
        directory: where to write; None for the log directory of the run.

    Raises:
        ValueError: A criterion of another name, bins below 1; a network that the run does not have;
            no validation data, or none with labels.

    Example:
        >>> TemperatureScaling(network="teacher").result is None
        True
    """

    def __init__(
        self,
        network: str = "student",
        criterion: Criterion = "nll",
        bins: int = 15,
        directory: str | None = None,
    ) -> None:
        check_search(criterion, bins)
        self.network, self.bins = network, bins
        self.criterion: Criterion = criterion
        self.directory = directory
        self.result: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        """The key of the state in checkpoints, one for each network and criterion."""
        return self._generate_state_key(network=self.network, criterion=self.criterion)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the module has the network."""
        module = check_module("TemperatureScaling", pl_module)
        directory = self._directory(trainer)
        if trainer.is_global_zero:
            check_writable(directory)
        others = getattr(module, "peers", [] if module.teacher is None else ["teacher"])
        if self.network not in ("student", *others):
            raise ValueError(
                f"network must be one of {['student', *others]} in this run, got {self.network!r}"
            )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the temperature, before the checkpoint of this validation is written."""
        assert isinstance(pl_module, DistillationBase)
        if trainer.sanity_checking:
            return
        found = find_temperature(
            "TemperatureScaling",
            trainer,
            pl_module,
            lambda batch: self._logits(pl_module, batch),
            criterion=self.criterion,
            bins=self.bins,
        )
        step = trainer.global_step
        self.result = {"network": self.network, "criterion": self.criterion, "step": step, **found}
        key = f"val/{self.network}_temperature_{self.criterion}"
        pl_module.log(key, found["temperature"], sync_dist=True)
        self._write(self._directory(trainer))

    def _directory(self, trainer: Trainer) -> Path:
        return Path(self.directory or trainer.log_dir or trainer.default_root_dir)

    def _logits(self, module: DistillationBase, batch: Any) -> LogitsSource:
        if isinstance(module, OnlineDistillationModule):
            return as_source(module.network_logits(self.network, batch))
        compute = module.student_logits if self.network == "student" else module.teacher_logits
        logits = compute(batch)
        assert logits is not None
        return as_source(logits).without_labels()

    @rank_zero_only
    def _write(self, directory: Path) -> None:
        assert self.result is not None
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"temperature_{self.network}_{self.criterion}.json"
        path.write_text(json.dumps(self.result, indent=2) + "\n", encoding="utf-8")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the result of the last validation."""
        self._print()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the result, unless this is a validation during a fit."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._print()

    def _print(self) -> None:
        if self.result is None:
            return
        value = self.result[self.criterion]
        rank_zero_info(
            f"TemperatureScaling: the {self.criterion} of the {self.network} is lowest at"
            f" temperature {self.result['temperature']:.3f}: {value['before']:.4f} ->"
            f" {value['after']:.4f}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the result of the last validation."""
        return {"result": self.result}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of the last validation."""
        self.result = state_dict["result"]
