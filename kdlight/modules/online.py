"""Online distillation: several networks learn at once, from the data and from each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import currentframe
from types import FrameType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdlight.gather import use_group
from kdlight.logits import Logits, LogitsSource, as_source, ask
from kdlight.metrics import DistillationMetrics
from kdlight.modules.checks import check_online
from kdlight.modules.detached import detached
from kdlight.modules.distillation import LIVE_ARGUMENTS, DistillationModule
from kdlight.modules.learner import Learner, build_networks
from kdlight.objectives import Loss, Objective, Step
from kdlight.reduce import Chunking
from kdlight.sharding import clip_norm, shard

STUDENT = "student"


class OnlineDistillationModule(DistillationModule):
    r"""Trains a student, its teacher and perhaps others together, on the same batches.

    Each network has an objective of its own, evaluated with every other network in the place of the
    teacher and averaged over them; what it learns from takes no gradient:

    .. math:: L_i = \frac{1}{n - 1} \sum_{j \neq i} \mathrm{objective}_i(z_i, \mathrm{sg}(z_j), y)

    Amara et al., "BD-KD: Balancing the Divergences for Online Knowledge Distillation", 2022, gives
    the student a `CrossEntropy` and a `BDKD`, and the teacher a `CrossEntropy` and, as a
    regulariser, KL(student || teacher): the teacher's `ForwardKL`, as it is the one that learns.

    Zhang, Xiang, Hospedales, Lu, "Deep Mutual Learning", 2018, gives every network these two.

    An objective that needs no teacher learns from the data alone. Which network is updated when,
    and how several are averaged in BD-KD, is not known to us; these are our choices.

    There is one optimizer, with a parameter group for each network, and it does what one for each
    would do: what it knows of a parameter is the parameter's own. Gradients are divided by the
    denominator of their own network, and clipped by themselves. All networks are in the checkpoint,
    and ``kdlight export --network NAME`` takes any.

    The networks are attributes under their names. Metrics are those of the student, beside the
    first of the others; theirs have their names before them (``val/teacher/accuracy``).

    Args:
        learners: what is trained, by name, at least two; one is the ``student``.
        optimizer: from parameter groups to an optimizer.
        lr_scheduler: from the optimizer to a schedule of the learning rates of all groups, stepped
            once per optimizer step.
        updates: ``"simultaneous"`` updates all networks in each optimizer step, each against the
            others as they were before it. ``"alternating"`` updates one in turn, so that it learns
            from the others as their last steps have left them; a step costs the same, and each
            network gets a step in as many as there are networks.
        normalization: as of `kdlight.DistillationModule`.
        chunked: likewise.
        temperature: of the divergences among the validation metrics; None for that of the
            student's objective where it has one, else 1.

    Raises:
        ValueError: fewer than two learners, or no student; a name that is taken; networks that
            share parameters; updates or normalization of another name.

    Example:
        >>> from kdlight import Plain
        >>> from kdlight.objectives import BDKD, CrossEntropy, ForwardKL, Weighted
        >>> module = OnlineDistillationModule({
        ...     "student": Learner(
        ...         Plain(nn.Linear(4, 3)), Weighted({"ce": CrossEntropy(), "kd": BDKD()})
        ...     ),
        ...     "teacher": Learner(
        ...         Plain(nn.Linear(4, 3)), Weighted({"ce": CrossEntropy(), "kd": ForwardKL()})
        ...     ),
        ... })
        >>> sorted({name.split(".")[0] for name, _ in module.named_parameters()})
        ['student', 'teacher']
    """

    def __init__(
        self,
        learners: dict[str, Learner],
        optimizer: Callable[[Iterable], Optimizer] = lambda p: AdamW(p, lr=5e-4),
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        updates: Literal["simultaneous", "alternating"] = "simultaneous",
        normalization: Literal["global", "local"] = "global",
        chunked: bool | Literal["auto"] | Chunking = "auto",
        temperature: float | None = None,
    ) -> None:
        if STUDENT not in learners:
            raise ValueError(f"learners must have a {STUDENT!r}, got {sorted(learners)}")
        if updates not in ("simultaneous", "alternating"):
            raise ValueError(f"updates must be 'simultaneous' or 'alternating', got {updates!r}")
        networks = build_networks(learners)
        student = networks.pop(STUDENT)
        super().__init__(
            student,
            learners[STUDENT].objective,
            None,
            optimizer,
            lr_scheduler,
            normalization,
            chunked=chunked,
            temperature=temperature,
        )
        self.updates = updates
        self.peers = list(networks)
        self.options = {name: (each.group or {}, each.clip) for name, each in learners.items()}
        for name, network in networks.items():
            self._take(name, network)
        self.peer_objectives = nn.ModuleDict({n: learners[n].objective for n in self.peers})
        metrics = {n: DistillationMetrics(self.metrics.temperature) for n in self.peers}
        self.peer_metrics = nn.ModuleDict(metrics)

    def _take(self, name: str, network: nn.Module) -> None:
        taken = {*dir(type(self)), *dir(nn.ModuleDict), *vars(self), *self._modules} - {"teacher"}
        if not name.isidentifier() or name in taken:
            raise ValueError(f"a learner cannot be called {name!r}: it becomes an attribute")
        setattr(self, name, network)

    def save_hyperparameters(self, *args: Any, ignore: Any = None, **kwargs: Any) -> None:
        """Save what is plain data; live learners are not, no more than a live student."""
        if ignore == LIVE_ARGUMENTS:
            ignore = [*ignore, "learners"]
        kwargs.setdefault("frame", cast(FrameType, currentframe()).f_back)
        super().save_hyperparameters(*args, ignore=ignore, **kwargs)

    # ---- from a batch to the steps of all networks

    def network_logits(self, name: str, batch: Any) -> Logits:
        """Logits of one network for ``batch``, ``(..., V)``: what a subclass may override."""
        return ask(getattr(self, name), batch)

    def student_logits(self, batch: Any) -> Logits:
        """Logits of the student."""
        return self.network_logits(STUDENT, batch)

    def teacher_logits(self, batch: Any) -> Logits:
        """Logits of the first of the others, without a way back to it."""
        return detached(as_source(self.network_logits(self.peers[0], batch)))

    def learners(self) -> dict[str, tuple[nn.Module, Objective]]:
        """The networks and their objectives; the student's name is empty in the accounts."""
        others = {name: (getattr(self, name), self.peer_objectives[name]) for name in self.peers}
        return {"": (self.student, self.objective), **others}  # type: ignore[dict-item]

    def losses(self, batch: Any) -> dict[str, tuple[Loss, Step]]:
        """The loss of each network, and the step beside the first it learns from."""
        logits = {
            name: as_source(self.network_logits(name or STUDENT, batch)) for name in self.learners()
        }
        return {name: self._loss(name, batch, logits) for name in logits}

    def _loss(self, name: str, batch: Any, logits: dict[str, LogitsSource]) -> tuple[Loss, Step]:
        _, objective = self.learners()[name]
        others = [detached(source) for other, source in logits.items() if other != name]
        steps = [self.make_step(batch, logits[name], other) for other in others]
        if not objective.needs_teacher:
            steps = steps[:1]
        return _mean([objective(step) for step in steps]), steps[0]

    # ---- the optimizer step

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Divide the gradients; where networks take turns, drop those of the others."""
        super().on_before_optimizer_step(optimizer)
        if self.updates == "alternating":
            names = list(self.learners())
            turn = names[self.trainer.global_step % len(names)]
            for parameter in (p for name in names if name != turn for p in self.learned(name)):
                parameter.grad = None

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each network by itself."""
        for name in self.learners():
            own = self.options[name or STUDENT][1]
            clip = gradient_clip_val if own is None else own
            if clip and gradient_clip_algorithm == "value" and own is None:
                nn.utils.clip_grad_value_(self.learned(name), clip)
            elif clip:
                clip_norm(self.learned(name), clip)

    def configure_optimizers(self) -> Any:
        """A group for each network, and one for each objective with parameters of its own."""
        groups: list[dict[str, Any]] = []
        for name, (network, objective) in self.learners().items():
            groups.append({"params": _trained(network), **self.options[name or STUDENT][0]})
            groups.append({"params": _trained(objective)})
        optimizer = self.optimizer([group for group in groups if group["params"]])
        if self.lr_scheduler is None:
            return optimizer
        schedule = {"scheduler": self.lr_scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    # ---- evaluation

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Update the metrics of all networks."""
        for name, (loss, step) in self.losses(batch).items():
            metrics = self.peer_metrics[name] if name else self.metrics
            metrics.update(step, loss)  # type: ignore[operator]

    test_step = validation_step

    def _log_metrics(self, stage: str) -> None:
        super()._log_metrics(stage)
        for name, metrics in self.peer_metrics.items():
            assert isinstance(metrics, DistillationMetrics)
            for key, value in metrics.compute().items():
                if not key.startswith("teacher_"):  # which is the student, seen from here
                    self.log(f"{stage}/{name}/{key}", value, sync_dist=True)
            metrics.reset()

    # ---- lifecycle

    def setup(self, stage: str) -> None:
        """Check that the parts fit before any work is done."""
        check_online(self)

    def configure_model(self) -> None:
        """Under FSDP2, shard all networks; once."""
        if self.device_mesh is not None:
            use_group(self.device_mesh["data_parallel"].get_group())
            for network, _ in self.learners().values():
                shard(network, self.device_mesh)

    def on_fit_start(self) -> None:
        """All networks learn, so all are in train mode."""
        for network, _ in self.learners().values():
            if not network.training:
                network.train()

    def teardown(self, stage: str) -> None:
        """No network is outside the module, so there is no memory to give back."""
        use_group(None)


def _mean(losses: list[Loss]) -> Loss:
    """Mean over teachers; the units that count are the same with each."""
    total = torch.stack([loss.total for loss in losses]).mean()
    parts = {key: _mean_of([loss.parts[key] for loss in losses]) for key in losses[0].parts}
    return Loss(total, losses[0].count, parts)


def _mean_of(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


def _trained(part: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in part.parameters() if parameter.requires_grad]
