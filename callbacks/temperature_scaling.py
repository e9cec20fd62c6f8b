"""Temperature scaling: the one number that makes a network's confidences true."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from kdlight.callbacks.report.evaluation import measuring, validation_batches
from kdlight.metrics import TemperatureCurve
from kdlight.metrics.distillation import ROWS
from kdlight.modules import OnlineDistillationModule, StandaloneModule
from kdlight.sources import LogitsSource, as_source

LOW, HIGH, POINTS = 0.05, 20.0, 33


class TemperatureScaling(Callback):
    r"""Finds the temperature of a network's logits that the validation data bear out.

    .. math:: T^* = \arg\min_T \mathrm{NLL}(z / T) \quad\text{or}\quad
              \arg\min_T \mathrm{ECE}(z / T)

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017, section 4.2.
    Dividing by it changes no prediction. A student measured beside a scaled student shows what of
    its calibration the distillation gave, and what one number would have.

    At the end of every validation (of a fit, or of ``kdlight validate``) the network goes over the
    validation data twice more: once for 33 temperatures from 0.05 to 20, once for as many about the
    best of them, which finds it to about 1 %. Nothing is kept of the data. The result is logged,
    saved with checkpoints, and written to a file, ``temperature_NETWORK_CRITERION.json``; what is
    done with it is up to the reader.

    Args:
        network: ``"student"``, ``"teacher"``, or another one that learns online.
        criterion: ``"nll"``, which is smooth and a proper score, or ``"ece"``.
        bins: of the expected calibration error.
        directory: where to write; None for the log directory of the run.

    Raises:
        ValueError: a criterion of another name, bins below 1; a network that the run does not have;
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
        if bins < 1:
            raise ValueError(f"bins must be at least 1, got {bins}")
        self.network, self.criterion, self.bins = network, criterion, bins
        self.directory = directory
        self.result: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        """One state for each network and criterion, so that a run may have several."""
        return self._generate_state_key(network=self.network, criterion=self.criterion)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out before the work whether there is such a network."""
        known = ["student", *getattr(pl_module, "peers", ["teacher"])]
        missing = self.network == "teacher" and getattr(pl_module, "teacher", None) is None
        if not isinstance(pl_module, StandaloneModule) or self.network not in known or missing:
            raise ValueError(
                f"network={self.network!r} is to be scaled, but {type(pl_module).__name__} has"
                f" {[name for name in known if name != self.network]}"
            )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the temperature, where a checkpoint of this validation will still hold it."""
        assert isinstance(pl_module, StandaloneModule)
        if trainer.sanity_checking:
            return
        wide = _spread(LOW, HIGH)
        best = self._best(wide, self._measure(trainer, pl_module, wide))
        ratio = wide[1] / wide[0]
        # 1 is measured beside them: what the network is without scaling
        fine = _spread(wide[best] / ratio, wide[best] * ratio)
        curves = self._measure(trainer, pl_module, [*fine, 1.0])
        found = self._best(fine, {name: values[:-1] for name, values in curves.items()})
        self.result = {
            "network": self.network,
            "criterion": self.criterion,
            "step": trainer.global_step,
            "temperature": fine[found],
            **{name: {"before": v[-1], "after": v[found]} for name, v in curves.items()},
        }
        key = f"val/{self.network}_temperature_{self.criterion}"
        pl_module.log(key, fine[found], sync_dist=True)
        self._write(Path(self.directory or trainer.log_dir or trainer.default_root_dir))

    def _measure(
        self, trainer: Trainer, module: StandaloneModule, temperatures: list[float]
    ) -> dict[str, list[float]]:
        """``nll`` and ``ece`` at each temperature, over all ranks."""
        metric = TemperatureCurve(temperatures, self.bins).to(module.device)
        with measuring(trainer, module):
            for batch in validation_batches(trainer, module):
                source = self._logits(module, batch)
                step = module.make_loss_inputs(batch, source, None)
                if step.labels is None:
                    raise ValueError("temperature scaling needs labels, and the batch has none")
                labels = step.labels.flatten()
                for rows in step.valid_positions().to(labels.device).split(ROWS):
                    metric.update(source.select(rows).logits(), labels[rows])
        return {name: values.tolist() for name, values in metric.compute().items()}

    def _logits(self, module: StandaloneModule, batch: Any) -> LogitsSource:
        if isinstance(module, OnlineDistillationModule):
            return as_source(module.network_logits(self.network, batch))
        asked = module.student_logits if self.network == "student" else module.teacher_logits
        logits = asked(batch)
        assert logits is not None
        return as_source(logits)

    def _best(self, temperatures: list[float], curves: dict[str, list[float]]) -> int:
        values = curves[self.criterion]
        # among equals the one that changes the logits least
        return min(range(len(values)), key=lambda i: (values[i], abs(log(temperatures[i]))))

    @rank_zero_only
    def _write(self, directory: Path) -> None:
        assert self.result is not None
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"temperature_{self.network}_{self.criterion}.json"
        path.write_text(json.dumps(self.result, indent=2) + "\n", encoding="utf-8")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the result of the last validation."""
        self._tell()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation outside a fit is the last one."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._tell()

    def _tell(self) -> None:
        if self.result is None:
            return
        value = self.result[self.criterion]
        rank_zero_info(
            f"TemperatureScaling: the {self.network} has its least {self.criterion} at temperature"
            f" {self.result['temperature']:.3f}: {value['before']:.4f} -> {value['after']:.4f}"
        )

    def state_dict(self) -> dict[str, Any]:
        """The result of the last validation."""
        return {"result": self.result}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.result = state_dict["result"]


def _spread(low: float, high: float) -> list[float]:
    return torch.linspace(log(low), log(high), POINTS, dtype=torch.float64).exp().tolist()
