"""Temperature scaling: find the temperature at which a network is calibrated."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from kdlight.callbacks.inference.batches import validation_batches
from kdlight.callbacks.inference.context import inference_context
from kdlight.callbacks.module_check import check_module
from kdlight.checkpoints import check_writable
from kdlight.checks import check_integer
from kdlight.metrics import TemperatureCurve
from kdlight.metrics.distillation import ROWS
from kdlight.modules import OnlineDistillationModule
from kdlight.modules.base import DistillationBase
from kdlight.sources import LogitsSource, as_source

LOW, HIGH, POINTS = 0.05, 20.0, 33


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
    to the network.

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
        criterion: Literal["nll", "ece"] = "nll",
        bins: int = 15,
        directory: str | None = None,
    ) -> None:
        if criterion not in ("nll", "ece"):
            raise ValueError(f"criterion must be 'nll' or 'ece', got {criterion!r}")
        check_integer("bins", bins, 1)
        self.network, self.criterion, self.bins = network, criterion, bins
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
        coarse = _log_grid(LOW, HIGH)
        best = self._best(coarse, self._measure(trainer, pl_module, coarse))
        ratio = coarse[1] / coarse[0]
        fine = _log_grid(coarse[best] / ratio, coarse[best] * ratio)
        # and at 1, which is the network without scaling
        curves = self._measure(trainer, pl_module, [*fine, 1.0])
        index = self._best(fine, {name: values[:-1] for name, values in curves.items()})
        self.result = {
            "network": self.network,
            "criterion": self.criterion,
            "step": trainer.global_step,
            "temperature": fine[index],
            **{name: {"before": v[-1], "after": v[index]} for name, v in curves.items()},
        }
        key = f"val/{self.network}_temperature_{self.criterion}"
        pl_module.log(key, fine[index], sync_dist=True)
        self._write(self._directory(trainer))

    def _directory(self, trainer: Trainer) -> Path:
        return Path(self.directory or trainer.log_dir or trainer.default_root_dir)

    def _measure(
        self, trainer: Trainer, module: DistillationBase, temperatures: list[float]
    ) -> dict[str, list[float]]:
        """Return ``nll`` and ``ece`` at each temperature, over all ranks."""
        metric = TemperatureCurve(temperatures, self.bins).to(module.device)
        with inference_context(trainer, module):
            for batch in validation_batches(trainer, module):
                source = self._logits(module, batch)
                inputs = module.make_loss_inputs(batch, source, None)
                if inputs.labels is None:
                    raise ValueError("TemperatureScaling needs labels, but the batch has none")
                labels = inputs.labels.flatten()
                for rows in inputs.valid_positions().to(labels.device).split(ROWS):
                    metric.update(source.select(rows).logits(), labels[rows])
        return {name: values.tolist() for name, values in metric.compute().items()}

    def _logits(self, module: DistillationBase, batch: Any) -> LogitsSource:
        if isinstance(module, OnlineDistillationModule):
            return as_source(module.network_logits(self.network, batch))
        compute = module.student_logits if self.network == "student" else module.teacher_logits
        logits = compute(batch)
        assert logits is not None
        return as_source(logits)

    def _best(self, temperatures: list[float], curves: dict[str, list[float]]) -> int:
        values = curves[self.criterion]
        # among equal values, the temperature that changes the logits least
        return min(range(len(values)), key=lambda i: (values[i], abs(log(temperatures[i]))))

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


def _log_grid(low: float, high: float) -> list[float]:
    return torch.linspace(log(low), log(high), POINTS, dtype=torch.float64).exp().tolist()
