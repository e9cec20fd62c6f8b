"""MST-Distill: a gate decides for each sample which of several teachers it learns from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf
from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.checks import check_choice, check_instance, check_integer, check_range
from kdlight.distributed.gather import exchange_sizes, gather_rows
from kdlight.losses.kl import weigh
from kdlight.objectives.base import Objective, check_vocabularies
from kdlight.objectives.features.sample_rows import Pooling
from kdlight.objectives.forward_kl import ForwardKL
from kdlight.objectives.fusion.gate import Gate
from kdlight.objectives.fusion.gate_rows import STUDENT, row_of_each_position
from kdlight.objectives.fusion.load_balance import BALANCE, Balance
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.token_objective import Divergence, closed_form
from kdlight.reduce import Loss, token_values

Routing = Literal["weighted", "top_k"]


class RoutedKD(Objective):
    r"""Distillation from several teachers, whose weights a gate decides for each sample.

    .. math:: L = v \sum_i \sum_k w_{ik} D(p_k, q)_i + n\, b\, B(w),
              \qquad w_i = \operatorname{softmax}(\mathrm{gate}(x_i))

    for n valid positions i, with the weights of their sample. Li, Yang et al., "MST-Distill:
    Mixture of Specialized Teachers for Cross-Modal Knowledge Distillation", 2025; see
    `kdlight.teachers.MaskedTeacher` for how the authors make several teachers of one.

    With ``routing="weighted"`` the gate learns from the distillation itself: it gives weight to the
    teacher that is easiest for the student to match, which need not be the one that is right. Where
    each teacher is wrong on a part of the samples, use the average of a `kdlight.TeacherEnsemble`,
    or its ``weigh_by``. With ``"top_k"``, as published, a sample learns from the
    mean of the k teachers of the highest weight. The choice takes no gradient, so that the gate
    learns from the balance alone. The authors' code has a weighted form as well, which mixes the
    logits of the teachers, and is detached: its gate learns from the balance alone, too.

    The balance B is a statistic of a batch: of the shares that teachers have in its samples. In
    training the samples are those of all data-parallel ranks: the loss is that of one process with
    all of them. With gradient accumulation each micro-batch has its own, and the loss of an
    optimizer step is their mean, weighted by valid positions. In evaluation each rank has its own.

    The log shows means over positions: ``distillation``, ``balance`` (both without their weights),
    and for each teacher its weight ``share/NAME`` and its divergence ``kl/NAME`` (with the factor
    :math:`T^2` that the divergence has). ``weights`` and ``weigh_by`` of the ensemble are not used
    here. Metrics in validation that compare with *the* teacher, such as ``val/forward_kl``, are
    those of the ensemble's average.

    Args:
        teachers: the names of the teachers, as in the `kdlight.TeacherEnsemble` of the module.
            Output k of the gate belongs to name k, whatever the order in the ensemble.
        divergence: D; None for `ForwardKL` at temperature 4, as published.
        k: with ``"top_k"``, the number of teachers of a sample.
        routing: ``"weighted"`` or ``"top_k"``.
        gate_input: what the gate reads: ``"student"`` for the logits of a classifier, as published;
            or, which is better, the path of a feature of the student, see
            `kdlight.features.FeaturePath`, such as ``"net:input"`` for what its network gets:
            logits know little of a sample in the first steps. Sequences need a path; a row is the
            mean over valid positions.
        balance: B, ``"kl"`` or ``"cv"``, see `kdlight.objectives.fusion.load_balance`; None for
            none.
        distillation_weight: v, not negative. Callbacks may change it.
        balance_weight: b, not negative. Callbacks may change it.
        gate: a network of your own, from rows ``(n, C)`` to ``(n, K)``; None for a
            `kdlight.objectives.fusion.gate_network.GateNetwork`.
        gate_size: C; None if it can be inferred from the modules of the student.
        pooling: how a feature becomes a row, ``"mean"`` over positions, ``"flatten"``, or
            ``"auto"``: the mean of ``(B, T, D)``, and all entries of a map.
        detach_input: keep the gradient of the gate's input from the student. It is not detached in
            the authors' code.
        gather: balance over the samples of all ranks.

    Raises:
        ValueError: fewer than two teachers or a name twice; k above their number, or given without
            ``"top_k"``; ``"top_k"`` without a balance, where the gate would not learn; a
            hyper-parameter out of range. In `bind`: the size of the gate is unknown. With a batch:
            the inputs do not have these teachers apart.
        TypeError: ``divergence`` is no `Divergence`, ``gate`` no network, ``teachers`` no names.

    Example:
        >>> from kdlight.sources import Dense, Mixture
        >>> student, one, two = torch.randn(3, 4, 7)
        >>> both = Mixture((Dense(one), Dense(two)), (0.5, 0.5), ("one", "two"))
        >>> objective = RoutedKD(["one", "two"], gate_size=7)
        >>> sorted(objective(LossInputs(student, both)).parts)
        ['balance', 'distillation', 'kl/one', 'kl/two', 'share/one', 'share/two']
    """

    def __init__(
        self,
        teachers: Sequence[str],
        *,
        divergence: Divergence | None = None,
        k: int = 1,
        routing: Routing = "weighted",
        gate_input: str = STUDENT,
        balance: Balance | None = "kl",
        distillation_weight: float = 1.0,
        balance_weight: float = 1.0,
        gate: nn.Module | None = None,
        gate_size: int | None = None,
        pooling: Pooling = "auto",
        detach_input: bool = False,
        gather: bool = True,
    ) -> None:
        super().__init__()
        self.teachers = _checked_names(teachers)
        divergence = ForwardKL(temperature=4.0) if divergence is None else divergence
        check_instance("divergence", divergence, Divergence)
        check_choice("routing", routing, ("weighted", "top_k"))
        check_integer("k", k, 1)
        if k > len(self.teachers):
            raise ValueError(
                f"k must be at most {len(self.teachers)}, the number of teachers, got {k}"
            )
        if routing == "weighted" and k != 1:
            raise ValueError(
                f"k={k} selects teachers, but routing='weighted' uses all of them; set"
                " routing='top_k', or leave out k"
            )
        if balance is not None:
            check_choice("balance", balance, tuple(BALANCE))
        elif routing == "top_k":
            raise ValueError(
                "routing='top_k' gives the gate no gradient, so without a balance it would not"
                " learn; set balance='kl' or 'cv', or routing='weighted'"
            )
        self.divergence = divergence
        self.needs = divergence.needs
        self.k, self.routing = k, routing
        self.balance: Balance | None = balance
        self.distillation_weight = float(distillation_weight)
        self.balance_weight = float(balance_weight)
        self.gather = bool(gather)
        self._check_weights()
        self.gate = Gate(
            len(self.teachers),
            gate_input,
            network=gate,
            size=gate_size,
            pooling=pooling,
            detach_input=detach_input,
        )
        self.student_paths = self.gate.student_paths

    def bind(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Make the network of the gate, once, in the size of its input; see `Gate.bind`."""
        super().bind(student, teacher)
        self.gate.bind(student)

    def check(self, inputs: LossInputs) -> None:
        """Check that the inputs have the teachers apart, all with the student's vocabulary."""
        super().check(inputs)
        self._check_weights()
        self.check_teachers(inputs.teachers)
        for source in inputs.teachers.values():
            check_vocabularies(inputs.student.shape[-1], source.shape[-1])

    def check_teachers(self, names: Collection[str]) -> None:
        """Raise a ValueError where teachers of other names are kept apart, or none."""
        if not names:
            raise ValueError(
                "RoutedKD needs several teachers apart, but there is one, or their average; give"
                " the module a kdlight.TeacherEnsemble, which is in no other teacher and has no"
                " route_by, as that itself selects a teacher for each row"
            )
        if set(names) != set(self.teachers):
            raise ValueError(
                f"teachers must be the names of those in the ensemble, {[*names]}, got"
                f" {[*self.teachers]}"
            )

    def forward(self, inputs: LossInputs) -> Loss:
        """Evaluate all teachers, weigh them for each sample, and add the balance."""
        self.check(inputs)
        log_weights = self.gate(inputs)
        values = torch.stack([self._values(inputs, name) for name in self.teachers], -1)
        weights = self._routed(log_weights)[row_of_each_position(inputs)].to(values.dtype)
        count = torch.full((), len(values), device=values.device)
        distilled = weigh(weights, values).sum()
        total = weigh(self.distillation_weight, distilled)
        parts = {"distillation": distilled}
        if self.balance is not None:
            parts["balance"] = self._balance(log_weights, len(values), inputs).to(values.dtype)
            total = total + weigh(self.balance_weight, parts["balance"])
        shares, divergences = weights.sum(0).unbind(), values.sum(0).unbind()
        parts |= {f"share/{name}": each for name, each in zip(self.teachers, shares, strict=True)}
        parts |= {f"kl/{name}": each for name, each in zip(self.teachers, divergences, strict=True)}
        return Loss(total, count, {name: part.detach() for name, part in parts.items()})

    def _routed(self, log_weights: Tensor) -> Tensor:
        """Return the weights of the teachers for each sample, ``(n, K)``."""
        if self.routing == "weighted":
            return log_weights.exp()
        chosen = log_weights.detach().topk(self.k, -1).indices
        return torch.zeros_like(log_weights).scatter(-1, chosen, 1 / self.k)

    def _values(self, inputs: LossInputs, name: str) -> Tensor:
        """Return the divergence from one teacher at each valid position, ``(m,)``."""
        return token_values(
            self.divergence.per_token_loss,
            inputs.student,
            inputs.teachers[name],
            inputs.class_labels,
            inputs.mask,
            value_and_grad=closed_form(self.divergence),
            parameters=tuple(p for p in self.divergence.parameters() if p.requires_grad),
            chunked=inputs.chunked,
            row_group=inputs.row_group,
        )

    def _balance(self, log_weights: Tensor, count: int, inputs: LossInputs) -> Tensor:
        assert self.balance is not None
        rows, counts = exchange_sizes(
            (len(log_weights), count),
            log_weights.device,
            distributed=self.gather and self.training,
            group=inputs.group,
        )
        value = BALANCE[self.balance](gather_rows(log_weights, rows))
        # the value is the share of this rank; the gradient is that of the whole loss in its rows
        return count * value.detach() + counts.total * (value - value.detach())

    def _check_weights(self) -> None:
        for name in ("distillation_weight", "balance_weight"):
            check_range(name, getattr(self, name), 0.0, inf, open_high=True)


def _checked_names(teachers: Sequence[str]) -> tuple[str, ...]:
    names = () if isinstance(teachers, str) else tuple(teachers)
    if isinstance(teachers, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"teachers must be names of teachers, as in ['a', 'b'], got {teachers!r}")
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"teachers must be two different names or more, got {[*names]}")
    return names
