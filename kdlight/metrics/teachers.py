"""Metrics of each of several teachers, beside those of their average."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from kdlight import losses
from kdlight.losses.log_space import log_probs, widen
from kdlight.metrics.precision import Mean
from kdlight.sources import LogitsSource, Mixture, Stacked, Tempered
from kdlight.sources.mixture import mix


class TeacherMetrics(nn.Module):
    """The share of each of several teachers, and its KL to the student, as means over positions.

    =============================  =======================================================
    ``teacher/NAME/share``         its weight in the average of all; of a teacher that rows were
                                   routed to, the share of the positions that it was asked about
    ``teacher/NAME/forward_kl``    KL from it to the student, over the positions that it was asked
                                   about
    =============================  =======================================================

    A metric exists from its first update on. All ranks must make the same updates in the same
    order, if need be with no values.

    Attributes:
        process_group: the ranks that later metrics are reduced over; None for all.

    Example:
        >>> from kdlight import Dense
        >>> one, two = Dense(torch.zeros(2, 5)), Dense(torch.ones(2, 5))
        >>> metrics = TeacherMetrics()
        >>> mixture = Mixture((one, two), (0.75, 0.25), ("one", "two"))
        >>> _ = metrics.compare(mixture, torch.zeros(2, 5))
        >>> {name: value.item() for name, value in metrics.compute().items() if "share" in name}
        {'teacher/one/share': 0.75, 'teacher/two/share': 0.25}
    """

    process_group: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.ModuleList()
        self.names: list[str] = []  # of the means; a name may have dots, a module's may not

    def compare(self, source: LogitsSource, student: Tensor, *, temperature: float = 1.0) -> Tensor:
        """Add the teachers that a source combines, if any; return its logits ``(n, V)``.

        Each teacher's logits are computed once, for its own metrics and for the average.

        Args:
            source: a source of ``(n, V)``.
            student: the student's logits ``(n, V)`` at the same positions.
            temperature: of the KL.
        """
        if isinstance(source, Mixture) and source.names:
            log_p = [log_probs(each.given_student(student)) for each in source.sources]
            weights = source.position_weights(log_p)
            for name, each, weight in zip(source.names, log_p, weights.unbind(-1), strict=True):
                self._update(name, weight, student, each, temperature)
            return mix(log_p, weights)
        if isinstance(source, Tempered):  # as a whole: each teacher stays as it is
            logits = self.compare(source.source, student, temperature=temperature)
            return widen(logits) / source.temperature
        logits = source.given_student(student)
        if isinstance(source, Stacked) and source.names:
            for name, asked in zip(source.names, source.position_weights().unbind(-1), strict=True):
                rows = asked > 0
                self._update(name, asked, student[rows], logits[rows], temperature)
        return logits

    def _update(
        self, name: str, weights: Tensor, student: Tensor, teacher: Tensor, temperature: float
    ) -> None:
        self._mean(f"teacher/{name}/share", weights.device).update(weights)
        if teacher.shape[-1] == student.shape[-1]:
            kl = losses.forward_kl(student, teacher, temperature=temperature)
            self._mean(f"teacher/{name}/forward_kl", kl.device).update(kl)

    def _mean(self, name: str, device: torch.device) -> Mean:
        if name not in self.names:
            # Lightning may be in inference mode here, and a later fit cannot update such tensors
            with torch.inference_mode(False):
                mean = Mean().to(device)
            mean.process_group = self.process_group
            self.means.append(mean)
            self.names.append(name)
        return cast(Mean, self.means[self.names.index(name)])

    def compute(self) -> dict[str, Tensor]:
        """Return all means that have data, reduced over ranks."""
        means = zip(self.names, cast("list[Mean]", list(self.means)), strict=True)
        values = {name: mean.compute() for name, mean in means if mean.update_called}
        # the mean of no value is NaN, such as the KL of a teacher that no row was routed to
        unused = {name for name in values if values.get(_share_of(name)) == 0}
        return {k: v for k, v in values.items() if not (k in unused and v.isnan())}

    def reset(self) -> None:
        """Reset all states."""
        for mean in self.means:
            cast(Mean, mean).reset()


def _share_of(name: str) -> str:
    return f"{name.rpartition('/')[0]}/share"
