"""The accounts of training: what every optimizer step amounts to, and one denominator for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from kdlight.modules.accounting import Ledger, StepResult, multiply_gradients, settings
from kdlight.modules.batches import check_training_batches
from kdlight.modules.guards import check_finite, check_gradients
from kdlight.modules.ranks import (
    average_gradients,
    copy_from_first_rank,
    count_once,
    data_parallel_size,
    data_parallel_sum,
)
from kdlight.objectives import Loss, Objective, Step
from kdlight.sharding import clip_norm

TASK = "task"
"""The part of a step's result that is the loss of a module beside its objective."""


class AccountedModule(LightningModule):
    """Trains on an objective, and divides the gradients of an optimizer step once.

    A module that trains several networks at once keeps accounts for each, by name. The student's
    name among them is the empty one. Every hook also asks the next class, which may be somebody
    else's.

    Attributes:
        prefix: what stands before the names of what is logged.
        last_step: what the optimizer step amounted to, from its end until the end of its last
            batch, which is when callbacks act on it; None while gradients are accumulated.
    """

    prefix: str = "train"
    last_step: StepResult | None = None
    _ledgers: dict[str, Ledger] = {}  # until accounts are opened

    def open_accounts(
        self, objective: Objective, normalization: Literal["global", "local"] = "global"
    ) -> None:
        """Begin to count what is learned on ``objective``."""
        if normalization not in ("global", "local"):
            raise ValueError(f"normalization must be 'global' or 'local', got {normalization!r}")
        self.objective = objective
        self.normalization = normalization
        self.last_step = None
        self._ledger = Ledger()
        self._ledgers = {"": self._ledger}
        self._peers_steps: dict[str, StepResult] = {}
        self._clock = 0.0

    def step(self, batch: Any) -> Step:
        """What ``batch`` offers the objective."""
        raise NotImplementedError(f"{type(self).__name__} does not define step(batch)")

    def losses(self, batch: Any) -> dict[str, tuple[Loss, Step]]:
        """The loss of each network that learns from ``batch``, and the step it was evaluated on."""
        step = self.step(batch)
        return {"": (self.objective(step), step)}

    def learners(self) -> dict[str, tuple[nn.Module, Objective]]:
        """The networks that learn, and what they learn on."""
        return {"": (self, self.objective)}

    def learned(self, name: str) -> list[nn.Parameter]:
        """All parameters that learn on one objective; the student's are all that are no other's."""
        if name:
            return [p for part in self.learners()[name] for p in part.parameters()]
        taken = {id(p) for other in self.learners() if other for p in self.learned(other)}
        return [p for p in self.parameters() if id(p) not in taken]

    def on_train_start(self) -> None:
        """Begin with the same objectives on all ranks; DDP sees to it, FSDP2 does not."""
        super().on_train_start()
        self._clock = time.perf_counter()
        if self.device_mesh is not None:
            for _, objective in self.learners().values():
                copy_from_first_rank(self.trainer, objective.parameters())

    def on_train_epoch_start(self) -> None:
        """See that all ranks have as many batches, before one waits for another."""
        super().on_train_epoch_start()
        check_training_batches(self.trainer)

    def account(
        self, losses: Mapping[str, tuple[Loss, Step]], *, beside: Tensor | None = None
    ) -> Tensor:
        """The losses of one micro-batch, as a sum scaled by a constant power of two.

        What is added to the student's loss ``beside`` its objective is not part of the accounts.
        """
        scaled = []
        for name, (loss, step) in losses.items():
            ledger = self._ledgers.setdefault(name, Ledger())
            ledger.add(loss, step)
            if beside is not None and not name:
                loss = loss._replace(total=loss.total + beside)
            if self.normalization == "local":
                scaled.append(loss.mean())
            else:
                scaled.append(loss.total * ledger.scale(loss.count, self._sum_over_ranks))
        return sum(scaled[1:], scaled[0])

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Close the accounts of the step and divide its gradients, once."""
        results = {name: self._close(name) for name in self.learners()}
        self.last_step = results.pop("")
        self._peers_steps = results
        super().on_before_optimizer_step(optimizer)  # which sees the gradients of the step

    def _close(self, name: str) -> StepResult:
        network, objective = self.learners()[name]
        ledger = self._ledgers[name]
        result = ledger.close(self._sum_over_ranks)
        check_finite(self.trainer, result.loss + result.parts.get(TASK, 0.0))
        if self.device_mesh is not None:
            check_gradients(network)
            average_gradients(self.trainer, objective.parameters())
        if self.normalization == "global":
            # Lightning divided by the number of micro-batches, the strategy by that of ranks
            averaged = self.trainer.accumulate_grad_batches * data_parallel_size(self.trainer)
            multiply_gradients(self.learned(name), ledger.factor(result.count, averaged=averaged))
        # here, with the values that the step was made with, before a schedule moves them
        self.log_dict({self._key(name, key): value for key, value in settings(objective).items()})
        return result

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as Lightning does, but under FSDP2 the norm of all gradients, sharded or not."""
        if (
            self.device_mesh is not None
            and gradient_clip_val
            and gradient_clip_algorithm != "value"
        ):
            clip_norm(self.parameters(), gradient_clip_val)
        else:
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log what the optimizer step amounted to, once per step."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.last_step is None:  # still accumulating gradients
            return
        result, self.last_step = self.last_step, None
        now, unit = time.perf_counter(), self.objective.unit
        for name, each in {"": result, **self._peers_steps}.items():
            self.log(self._key(name, "loss"), each.loss, prog_bar=True)
            self.log_dict({self._key(name, part): value for part, value in each.parts.items()})
        speed = result.count / (now - self._clock)
        self.log(f"{self.prefix}/ignored_share", result.ignored)
        self.log(f"{self.prefix}/{unit}s_seen", float(self._ledger.seen))
        self.log(f"{self.prefix}/{unit}s_per_second", speed, prog_bar=True)
        self._clock = now

    def on_validation_epoch_start(self) -> None:
        """Ranks that divide a network among them see the same positions, which count once."""
        super().on_validation_epoch_start()
        count_once(self.trainer, self)

    def on_test_epoch_start(self) -> None:
        """Likewise."""
        super().on_test_epoch_start()
        count_once(self.trainer, self)

    def on_validation_end(self) -> None:
        """Time spent on validation is not time spent on training."""
        super().on_validation_end()
        self._clock = time.perf_counter()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save how much the run has seen."""
        super().on_save_checkpoint(checkpoint)
        states = {name: ledger.state_dict() for name, ledger in self._ledgers.items()}
        if states:
            checkpoint["accounting"] = states.pop("")
        if states:
            checkpoint["accounting_of_peers"] = states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Count on from there."""
        super().on_load_checkpoint(checkpoint)
        if not self._ledgers:  # nothing is learned, as where a module is loaded to be used
            return
        if "accounting" in checkpoint:
            self._ledger.load_state_dict(checkpoint["accounting"])
        for name, state in checkpoint.get("accounting_of_peers", {}).items():
            self._ledgers.setdefault(name, Ledger()).load_state_dict(state)

    def _sum_over_ranks(self, values: Tensor) -> Tensor:
        return data_parallel_sum(self.trainer, values)

    def _key(self, name: str, what: str) -> str:
        return "/".join(filter(None, (self.prefix, name, what)))
