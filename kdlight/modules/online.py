"""Online distillation: several networks are trained together, on the data and on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdlight.distributed.sharding import clip_norm
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.metrics import DistillationMetrics
from kdlight.models import call_network, rebuild_config
from kdlight.modules.fit_checks import check_peer_heads, check_peers, check_strategy
from kdlight.modules.label_format import LabelFormat
from kdlight.modules.learner import Learner, build_networks
from kdlight.modules.optimizers import Groups, default_optimizer, trainable
from kdlight.modules.standalone import StandaloneModule, from_config
from kdlight.modules.step_driver import STUDENT
from kdlight.objectives import Loss, LossInputs, Objective
from kdlight.objectives.features.feature_objective import feature_paths
from kdlight.reduce import Chunking
from kdlight.sources import Logits, LogitsSource, as_source, detached

LIVE_ARGUMENTS = ["learners", "optimizer", "lr_scheduler"]


class OnlineDistillationModule(StandaloneModule):
    r"""Trains a student, its teacher and optionally others together, on the same batches.

    Each network has an objective of its own. It is evaluated with every other network as the
    teacher, and averaged over them. The logits of the other networks take no gradient:

    .. math:: L_i = \frac{1}{n - 1} \sum_{j \neq i} \mathrm{objective}_i(z_i, \mathrm{sg}(z_j), y)

    Amara et al., "BD-KD: Balancing the Divergences for Online Knowledge Distillation", 2022, trains
    the student on a `CrossEntropy` and a `BDKD`, and the teacher on a `CrossEntropy` and, as a
    regularizer, KL(student || teacher). This is the `ForwardKL` of the teacher, as the network that
    is trained is the one that an objective calls the student.

    Zhang, Xiang, Hospedales, Lu, "Deep Mutual Learning", 2018, trains every network on a
    `CrossEntropy` and a `ForwardKL`.

    An objective that needs no teacher is evaluated on the data alone. The papers do not state when
    each network is updated, and how BD-KD averages several networks; ``updates`` and the mean above
    are choices of this library.

    There is one optimizer, with a parameter group for each network. It is equivalent to one
    optimizer for each, as the state of an optimizer belongs to a parameter. The gradients of each
    network are normalized and clipped separately. All networks are in the checkpoint, and
    ``kdlight export --network NAME`` exports any of them.

    The networks are attributes of the module under their names. The metrics of the student compare
    it with the first of the other networks. Metrics of other networks have the name of the network
    as a prefix (``val/teacher/accuracy``).

    Args:
        learners: the networks with their objectives, by name: ``student`` and at least one other.
        optimizer: from parameter groups to an optimizer; or a mapping with an optimizer of its own
            for each network, by its name, and for ``objective``, the parameters of all objectives.
        lr_scheduler: from the optimizer to a schedule of the learning rates of all groups.
        lr_scheduler_config: see `kdlight.DistillationModule`.
        updates: ``"simultaneous"`` updates all networks in each optimizer step, each with the
            others as they were before the step. ``"alternating"`` updates one network per step in
            turn, with the others as they are after their last updates. A step costs the same, and
            with n networks each is updated in every n-th step.
        normalization: see `kdlight.DistillationModule`.
        chunked: see `kdlight.DistillationModule`.
        labels: see `kdlight.DistillationModule`.
        ignore_index: see `kdlight.DistillationModule`.
        temperature: temperature of the divergences among the validation metrics; None for that of
            the student's objective if it has one, else 1.

    Raises:
        ValueError: fewer than two learners, or no student; a name that the module uses already;
            networks that share parameters; an unknown ``updates`` or ``normalization``.

    Example:
        >>> from kdlight import SingleInput
        >>> from kdlight.objectives import BDKD, CrossEntropy, ForwardKL, Weighted
        >>> module = OnlineDistillationModule({
        ...     "student": Learner(
        ...         SingleInput(nn.Linear(4, 3)), Weighted({"ce": CrossEntropy(), "kd": BDKD()})
        ...     ),
        ...     "teacher": Learner(
        ...         SingleInput(nn.Linear(4, 3)),
        ...         Weighted({"ce": CrossEntropy(), "kd": ForwardKL()}),
        ...     ),
        ... })
        >>> sorted({name.split(".")[0] for name, _ in module.named_parameters()})
        ['student', 'teacher']
    """

    def __init__(
        self,
        learners: dict[str, Learner],
        optimizer: Callable[[Iterable], Optimizer]
        | dict[str, Callable[[Iterable], Optimizer]] = default_optimizer,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        lr_scheduler_config: dict[str, Any] | None = None,
        updates: Literal["simultaneous", "alternating"] = "simultaneous",
        normalization: Literal["global", "local"] = "global",
        chunked: bool | Literal["auto"] | Chunking = "auto",
        labels: Literal["auto", "causal", "aligned", "none"] = "auto",
        ignore_index: int = IGNORE_INDEX,
        temperature: float | None = None,
    ) -> None:
        if STUDENT not in learners:
            raise ValueError(f"learners must have a {STUDENT!r}, got {sorted(learners)}")
        if updates not in ("simultaneous", "alternating"):
            raise ValueError(f"updates must be 'simultaneous' or 'alternating', got {updates!r}")
        networks = build_networks(learners)
        self.rebuilding = {
            "learners": {n: {"network": rebuild_config(e.network)} for n, e in learners.items()}
        }
        super().__init__()
        self.save_hyperparameters(ignore=[] if from_config() else LIVE_ARGUMENTS)
        label_format = LabelFormat(labels, ignore_index)
        objective = learners[STUDENT].objective
        self.setup_distillation(objective, None, normalization, chunked, label_format)
        self.setup_optimizers(optimizer, lr_scheduler, lr_scheduler_config)
        self.updates = updates
        self.peers = [name for name in networks if name != STUDENT]
        self.options = {name: (each.group or {}, each.clip) for name, each in learners.items()}
        self.student = networks[STUDENT]
        if temperature is None:
            temperature = float(getattr(self.objective, "temperature", 1.0))
        self.metrics = DistillationMetrics(temperature=temperature)
        for name in self.peers:
            self._set_network(name, networks[name])
        self.peer_objectives = nn.ModuleDict({n: learners[n].objective for n in self.peers})
        self.peer_metrics = nn.ModuleDict({n: DistillationMetrics(temperature) for n in self.peers})
        self._set_normalizers(*self.learners())
        for name, (network, objective) in self.learners().items():
            others = [other for peer, (other, _) in self.learners().items() if peer != name]
            objective.bind(network, others[0])
            if feature_paths(objective)[0]:
                raise ValueError(
                    f"the objective of learner {name!r} compares features, which networks that are"
                    " trained together do not offer; use a DistillationModule"
                )

    def _set_network(self, name: str, network: nn.Module) -> None:
        taken = {*dir(type(self)), *dir(nn.ModuleDict), *vars(self), *self._modules} - {"teacher"}
        if not name.isidentifier() or name in taken:
            raise ValueError(f"a learner cannot be called {name!r}: it becomes an attribute")
        setattr(self, name, network)

    # ---- from a batch to the losses of all networks

    def network_logits(self, name: str, batch: Any) -> Logits:
        """Return the logits of one network for ``batch``, ``(..., V)``; may be overridden."""
        return call_network(getattr(self, name), batch)

    def student_logits(self, batch: Any) -> Logits:
        """Return the logits of the student."""
        return self.network_logits(STUDENT, batch)

    def teacher_logits(self, batch: Any) -> Logits:
        """Return the logits of the first of the other networks, detached."""
        return detached(as_source(self.network_logits(self.peers[0], batch)))

    def learners(self) -> dict[str, tuple[nn.Module, Objective]]:
        """Return the networks and their objectives."""
        others = {name: (getattr(self, name), self.peer_objectives[name]) for name in self.peers}
        return {STUDENT: (self.student, self.objective), **others}  # type: ignore[dict-item]

    def learner_losses(self, batch: Any) -> dict[str, tuple[Loss, LossInputs]]:
        """Compute the loss of each network, with its inputs beside the first other network."""
        logits = {name: as_source(self.network_logits(name, batch)) for name in self.learners()}
        return {name: self._loss(name, batch, logits) for name in logits}

    def _loss(
        self, name: str, batch: Any, logits: dict[str, LogitsSource]
    ) -> tuple[Loss, LossInputs]:
        _, objective = self.learners()[name]
        others = [detached(source) for other, source in logits.items() if other != name]
        inputs = [self.make_loss_inputs(batch, logits[name], other) for other in others]
        if "teacher" not in objective.needs:
            inputs = inputs[:1]
        return _mean_loss([objective(each) for each in inputs]), inputs[0]

    # ---- the optimizer step

    def after_normalization(self) -> None:
        """With alternating updates, drop the gradients of all networks but one."""
        if self.updates == "alternating":
            names = list(self.learners())
            turn = names[self.trainer.global_step % len(names)]
            for name in names:
                for parameter in self.trainable_parameters(name) if name != turn else ():
                    parameter.grad = None

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of each network by themselves."""
        for name in self.learners():
            own = self.options[name][1]
            clip = gradient_clip_val if own is None else own
            if clip and gradient_clip_algorithm == "value" and own is None:
                nn.utils.clip_grad_value_(self.trainable_parameters(name), clip)
            elif clip:
                clip_norm(self.trainable_parameters(name), clip)

    def parameter_groups(self) -> dict[str, Groups]:
        """Return a group for each network, and one for each objective with parameters."""
        parts: dict[str, Groups] = {}
        objectives: Groups = []
        for name, (network, objective) in self.learners().items():
            parts[name] = [{"params": trainable(network), **self.options[name][0]}]
            objectives.append({"params": trainable(objective)})
        return {**parts, "objective": objectives}

    def parts(self) -> dict[str, Any]:
        """Return ``student``, ``teacher`` if a network has this name, and ``objective``."""
        teacher = getattr(self, "teacher", None)
        return {"student": self.student, "teacher": teacher, "objective": self.objective}

    def part_configs(self) -> dict[str, Any]:
        """Return the configs of the networks, and of the student's objective."""
        learners = self.hparams.get("learners") or {}
        configs = {name: each["network"] for name, each in learners.items()}
        return {**configs, "objective": learners[STUDENT]["objective"]} if learners else {}

    # ---- evaluation

    def network_metrics(self) -> dict[str, DistillationMetrics]:
        """Return the metrics of each network by the prefix of their names."""
        return {"": self.metrics, **{f"{n}/": m for n, m in self.peer_metrics.items()}}  # type: ignore[dict-item]

    def student_network(self) -> nn.Module:
        """Return ``student``."""
        return self.student

    def prepare_run(self) -> None:
        """Check that the parts fit before any work is done."""
        check_peers(self.learners(), self.trainer.datamodule)
        check_strategy(self.trainer.strategy, None, self.normalization, self)
        check_peer_heads(self.trainer.strategy, self.learners(), self.chunked)
        super().prepare_run()


def _mean_loss(losses: list[Loss]) -> Loss:
    """Average over teachers; the units that are counted are the same with each."""
    total = torch.stack([loss.total for loss in losses]).mean()
    parts = {
        key: torch.stack([loss.parts[key] for loss in losses]).mean() for key in losses[0].parts
    }
    return Loss(total, losses[0].count, parts)
