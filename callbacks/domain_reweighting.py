"""Draw more of the domains on which the student is furthest behind its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from kdlight.callbacks.domains.draw_position import DrawPosition
from kdlight.callbacks.domains.perplexities import check_perplexities, domain_perplexities
from kdlight.callbacks.domains.run_checks import check_run, own_loader
from kdlight.checks import check_integer, check_positive, check_type
from kdlight.data.domains.domain_module import DomainDataModule
from kdlight.modules.base import DistillationBase
from kdlight.schedules import domain_weights
from kdlight.schedules.domain_weights import check_alpha


class DomainReweighting(Callback):
    r"""Weighs the domains of the training text by the perplexities of student and teacher.

    .. math:: r_{t+1}[i] = \alpha\, \frac{r_t[i] \exp(l_S[i] / l_T[i])}
              {\sum_j r_t[j] \exp(l_S[j] / l_T[j])} + \frac{1 - \alpha}{N}

    Liu et al., "DDK: Distilling Domain Knowledge for Efficient Large Language Models", 2024,
    algorithm 1, see `kdlight.schedules.domain_weights`. Choose it for text of several kinds, of
    which the student is to lose none. The data are a `kdlight.data.DomainDataModule`. The objective
    of the paper is cross-entropy with weight 1 and KL with weight 0.2, in a
    `kdlight.objectives.Weighted`; any other one works as well.

    Before training, the perplexities of both on validation text of each domain are measured. The
    first interval is drawn by the weights of the data module, uniform by default. After ``every``
    optimizer steps, the student is measured again and the weights are updated, so that none of them
    is below ``(1 - alpha) / N``. The teacher is measured once; its perplexities are kept in
    checkpoints. The student never has a gradient of the validation text, but the weights are fitted
    to it.

    A measurement changes no weight, mode or random number of the run. Ranks divide it among them
    and use the same weights, under DDP and FSDP2. An interrupted run that is resumed with
    `kdlight.callbacks.ExactResume` draws what an uninterrupted one does. New weights act at the
    next draw. With ``num_workers`` of the data module, the workers have ``num_workers *
    prefetch_factor`` batches ready that were drawn by the old weights; the number is logged.

    A cached teacher is asked like any other: its cache must have been written with this data, and
    hold the probability of each label, as one of all tokens does. If it does not, or if the teacher
    has other tokens, measure the teacher elsewhere and give ``teacher_perplexity``.

    Logged for each optimizer step, with the names of the domains: ``train/domain_NAME/weight``,
    ``.../student_perplexity`` and ``.../teacher_perplexity`` of the last measurement,
    ``.../tokens``, the number of its tokens that were trained on, and ``train/domain_lag``, the
    number of batches that were drawn already at the last update. With the
    `kdlight.DistillationMixin` the names begin with ``distillation/``.

    Args:
        every: number of optimizer steps between updates.
        alpha: share of the new weights that follows the perplexities, in (0, 1]; the rest is
            uniform.
        samples: number of validation blocks of each domain to measure on; all if there are fewer.
        teacher_perplexity: perplexities of the teacher by domain, if they are known.

    Raises:
        TypeError: An argument of another kind.
        ValueError: A number outside its range. Before training: a run without a teacher, labels or
            `kdlight.data.DomainDataModule`, or with several of these callbacks; a training loader
            with another sampler; a teacher whose perplexity cannot be measured; FSDP1 or DeepSpeed.

    Attributes:
        history: for the start and each update, the ``step``, the ``draw`` from which on the weights
            act, the ``weights`` and the ``student_perplexity``, by domain.
        teacher_perplexity: those of the teacher by domain, from the start of a fit on.

    Example:
        >>> DomainReweighting(alpha=0.0)
        Traceback (most recent call last):
        ValueError: alpha must be in (0, 1], got 0.0; 1 is the weights without smoothing
    """

    def __init__(
        self,
        every: int = 1000,
        alpha: float = 0.5,
        samples: int = 500,
        teacher_perplexity: dict[str, float] | None = None,
    ) -> None:
        check_integer("every", every, 1)
        check_alpha(alpha)
        check_integer("samples", samples, 1)
        check_type("teacher_perplexity", teacher_perplexity, (Mapping, type(None)), "numbers")
        for value in (teacher_perplexity or {}).values():
            check_type("teacher_perplexity", value, (int, float), "numbers by domain")
            check_positive("teacher_perplexity", value)
        self.every, self.alpha, self.samples = every, float(alpha), samples
        self._given = teacher_perplexity
        self._clear()

    # ---- the run

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the run has domains, and what their weights are computed from."""
        if stage != "fit":
            return
        check_run(trainer, pl_module, asks_teacher=self._given is None)
        if self._given is not None:
            check_perplexities(self._given, _data(trainer).names)
        if sum(isinstance(each, DomainReweighting) for each in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise ValueError(
                "several DomainReweighting callbacks would set the same weights; use one"
            )
        if 0 < trainer.max_steps <= self.every:
            rank_zero_warn(
                f"DomainReweighting(every={self.every}) changes no weight that is used within"
                f" max_steps={trainer.max_steps}; lower every"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure student and teacher, or continue where a checkpoint was."""
        assert isinstance(pl_module, DistillationBase)
        data = _data(trainer)
        loader = own_loader(trainer, data)
        self._position = DrawPosition(trainer, loader, data.sampler)
        if not trainer.global_step:  # a new run, perhaps with callbacks and data of another one
            self._clear()
            data.restart()
        if not self.history:
            self._start(trainer, pl_module)
        else:
            if self._given is not None:
                self.teacher_perplexity = check_perplexities(self._given, data.names)
            # a checkpoint may be written after the last step, but before its update
            self._advance(trainer, pl_module)
        self._seen = trainer.global_step
        ahead = self._position.batches_ahead
        rank_zero_info(
            "DomainReweighting: new weights act"
            + (f" after {ahead} batches, which the workers have ready" if ahead else " at once")
        )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the place after this batch, for a checkpoint that any callback writes at its end."""
        self._trained = self._position.after_batch()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an optimizer step, count tokens, update the weights if it is time, and log."""
        assert isinstance(pl_module, DistillationBase)
        if trainer.global_step == self._seen:  # gradients are still being accumulated
            return
        self._seen = trainer.global_step
        self._advance(trainer, pl_module)
        if not trainer.barebones:
            self._log(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, perplexities and numbers of tokens; the draws are in the data's."""
        return {
            "weights": list(self._weights),
            "history": [dict(each) for each in self.history],
            "teacher_perplexity": dict(self.teacher_perplexity),
            "tokens": list(self._tokens),
            "counted": self._counted,
            "trained": self._trained,
            "lag": self._lag,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the state of a checkpoint."""
        self._weights, self._tokens = list(state_dict["weights"]), list(state_dict["tokens"])
        self.history = [dict(each) for each in state_dict["history"]]
        self.teacher_perplexity = dict(state_dict["teacher_perplexity"])
        self._counted, self._trained = state_dict["counted"], state_dict["trained"]
        self._lag = state_dict["lag"]

    # ---- the update

    def _clear(self) -> None:
        self.history: list[dict[str, Any]] = []
        self.teacher_perplexity: dict[str, float] = {}
        self._weights: list[float] = []  # of the last update; not those of the first interval
        self._tokens: list[float] = []
        self._counted = self._trained = 0  # draws
        self._seen = self._lag = 0

    def _start(self, trainer: Trainer, module: DistillationBase) -> None:
        """Measure both networks, for the weights that the first update starts from."""
        data = _data(trainer)
        asks = self._given is None
        measured = domain_perplexities(
            trainer, module, data.domain_dataloaders(self.samples), with_teacher=asks
        )
        teacher = measured.teacher if asks else check_perplexities(self._given, data.names)
        self.teacher_perplexity = teacher
        self._weights = domain_weights(None, [*measured.student.values()], [*teacher.values()])
        self._tokens = [0.0] * len(data.names)
        self._remember(trainer, self._trained, measured.student)

    def _advance(self, trainer: Trainer, module: DistillationBase) -> None:
        """Count the tokens since the last step, and update the weights if it is time."""
        data = _data(trainer)
        for start, stop in self._position.trained_ranges(self._counted, self._trained):
            tokens = data.tokens_of_blocks[data.sampler.draws.samples(start, stop)].double()
            domains = data.sampler.draws.domains(start, stop)
            sums = torch.bincount(domains, tokens, minlength=len(self._tokens)).tolist()
            self._tokens = [a + b for a, b in zip(self._tokens, sums, strict=True)]
        self._counted = self._trained
        if trainer.global_step // self.every > self.history[-1]["step"] // self.every:
            self._update(trainer, module)

    def _update(self, trainer: Trainer, module: DistillationBase) -> None:
        data = _data(trainer)
        loaders = data.domain_dataloaders(self.samples)
        student = domain_perplexities(trainer, module, loaders, with_teacher=False).student
        teacher = [*self.teacher_perplexity.values()]
        self._weights = domain_weights(
            self._weights, [*student.values()], teacher, alpha=self.alpha
        )
        draw = self._position.next_free(self._trained)
        self._lag = self._position.lag(self._trained)
        data.sampler.set_weights(self._weights, draw=draw)
        self._remember(trainer, draw, student)

    def _remember(self, trainer: Trainer, draw: int, student: dict[str, float]) -> None:
        data = _data(trainer)
        weights = dict(zip(data.names, data.sampler.weights, strict=True))
        step = trainer.global_step
        self.history.append(
            {"step": step, "draw": draw, "weights": weights, "student_perplexity": student}
        )
        words = [
            f"{name} {student[name]:.2f} / {self.teacher_perplexity[name]:.2f} ({weight:.3f})"
            for name, weight in weights.items()
        ]
        rank_zero_info(
            f"DomainReweighting, step {step}: perplexity of student / teacher (weight): "
            + ", ".join(words)
        )

    def _log(self, trainer: Trainer, module: DistillationBase) -> None:
        last = self.history[-1]
        prefix = module.log_prefix
        for number, name in enumerate(_data(trainer).names):
            values = {
                "weight": last["weights"][name],
                "student_perplexity": last["student_perplexity"][name],
                "teacher_perplexity": self.teacher_perplexity[name],
                "tokens": self._tokens[number],
            }
            module.log_dict({f"{prefix}/domain_{name}/{k}": v for k, v in values.items()})
        module.log(f"{prefix}/domain_lag", float(self._lag))


def _data(trainer: Trainer) -> DomainDataModule:
    return trainer.datamodule  # type: ignore[attr-defined]
