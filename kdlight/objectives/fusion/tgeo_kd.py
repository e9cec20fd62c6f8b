"""TGeo-KD: a learned ratio of teacher and label for every position."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight import losses
from kdlight.checks import check_integer, check_positive
from kdlight.losses.kl import weigh
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.losses.log_space import probs
from kdlight.objectives.fusion.geometry import BLOCKS, SCALARS, class_features, scalar_features
from kdlight.objectives.fusion.ratio_network import RatioNetwork
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.token_objective import TokenObjective
from kdlight.reduce import PerTokenValues


class TGeoKD(TokenObjective):
    r"""A mixture of distillation and cross-entropy, in a ratio that a small network predicts.

    .. math:: L = \alpha T^2 \operatorname{KL}(p^T \| q^T) + (1 - \alpha) (-\log q_y),
              \qquad \alpha = f_\omega(\Delta) \in (0, 1)

    Hu et al., "Less or More From Teacher: Exploiting Trilateral Geometry For Knowledge
    Distillation", 2024. The features :math:`\Delta` tell how student, teacher and label stand to
    each other. Choose it where some labels or some answers of the teacher are wrong, and you have a
    set of data whose labels are right: positions with a wrong teacher then get a ratio near 0,
    those with a wrong label one near 1.

    The ratio takes no gradient of this loss, neither into the student nor into the network, or the
    network would learn which term is smaller. `kdlight.callbacks.BilevelUpdate` trains the network
    on the validation loss of the student after a step. Without this callback it keeps its random
    initialization, and ratios are arbitrary (which is what the authors' code does, as its network
    gets no gradient). The authors also take the cross-entropy of the softmax of probabilities; here
    it is that of the logits.

    The network sees nine vectors over the classes (``classes=C``), as in the paper; or, for
    vocabularies, eight numbers (a choice of this library), see
    `kdlight.objectives.fusion.geometry`.
    One of the nine vectors is the teacher's mean distribution for the label. In the paper it is the
    mean over the training set; here, over the samples that the callback has seen, in the buffers
    ``class_means`` and ``class_counts``. So a row does not depend on the batch it is in. Before a
    class has been seen, it is the teacher's distribution of the row.

    The log shows means over positions: ``ratio``, and both terms before they are weighted, ``kd``
    (with :math:`T^2`) and ``ce``.

    Args:
        temperature: T, divides both logits of the KL, above 0. Callbacks may change it.
        classes: number C of classes, at least 2; None for the eight numbers.

    Raises:
        ValueError: the temperature is not above 0; fewer than two classes.
        TypeError: ``classes`` is no integer.

    Example:
        >>> from kdlight.objectives import LossInputs
        >>> objective = TGeoKD(classes=3)
        >>> loss = objective(LossInputs(torch.randn(4, 3), torch.randn(4, 3), torch.arange(4) % 3))
        >>> sorted(loss.parts), 0 < loss.parts["ratio"] / loss.count < 1
        (['ce', 'kd', 'ratio'], tensor(True))
    """

    needs = frozenset({"teacher", "labels"})
    class_means: Tensor
    class_counts: Tensor

    def __init__(self, *, temperature: float = 1.5, classes: int | None = None) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        if classes is not None:
            check_integer("classes", classes, 2)
            self.register_buffer("class_means", torch.zeros(classes, classes))
            # no floating-point number, which a cast to half precision would round
            self.register_buffer("class_counts", torch.zeros(classes, dtype=torch.long))
        self.temperature, self.classes = float(temperature), classes
        self.network = RatioNetwork(SCALARS if classes is None else BLOCKS * classes)

    def check(self, inputs: LossInputs) -> None:
        """Check that there are labels of classes, and as many classes as the network reads."""
        super().check(inputs)
        if inputs.class_labels is None:
            raise ValueError(
                "TGeoKD needs labels that are classes, integers, but those of the inputs are"
                " floating point; use Weighted with MeanSquaredError for a regression"
            )
        if self.classes is not None and inputs.student.shape[-1] != self.classes:
            raise ValueError(
                f"classes is {self.classes}, but the logits have {inputs.student.shape[-1]}"
                " columns; set classes to their number, or to None for a vocabulary"
            )

    def per_token_loss(self, student: Tensor, teacher: Tensor, labels: Tensor) -> PerTokenValues:
        """Compute the loss, ``(n, V), (n, V), (n,) -> (n,)``, and values for the log."""
        kd, ce = self.terms(student, teacher, labels)
        ratio = self.network(self.features(student, teacher, labels)).to(kd.dtype)
        values = weigh(ratio, kd) + weigh(1 - ratio, ce)
        return values, {"ratio": ratio.detach(), "kd": kd.detach(), "ce": ce.detach()}

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both terms of each row, ``(n, V), (n, V), (n,) -> (n,), (n,)``."""
        temperature = self.temperature
        kd = losses.forward_kl(student, teacher, temperature=temperature) * temperature**2
        return kd, losses.cross_entropy(student, labels)

    def advantage(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Compute the slope of each row's loss in its ratio, ``(n, V), (n, V), (n,) -> (n,)``."""
        kd, ce = self.terms(student, teacher, labels)
        return kd - ce

    def features(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Compute the input of the network, ``(n, V), (n, V), (n,) -> (n, F)``; no gradient."""
        student, teacher = student.detach(), teacher.detach()
        if self.classes is None:
            return scalar_features(student, teacher, labels)
        index = labels.masked_fill(labels == IGNORE_INDEX, 0)
        seen = (self.class_counts[index] > 0).unsqueeze(-1)
        p = probs(teacher)
        means = torch.where(seen, self.class_means[index].to(p.dtype), p)
        return class_features(student, teacher, labels, means)

    def class_sums(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the teacher's probabilities of each class, ``(n, 9C) -> (C, C), (C,)``."""
        _, teacher, label, *_ = features.split(len(self.class_counts), -1)
        return label.T @ teacher, label.sum(0)

    @torch.no_grad()
    def add_class_sums(self, sums: Tensor, counts: Tensor) -> None:
        """Add samples to the means of the classes: what `class_sums` returned, over all ranks.

        Example:
            >>> objective = TGeoKD(classes=2)
            >>> logits, labels = torch.zeros(3, 2), torch.tensor([0, 0, 1])
            >>> features = objective.features(logits, logits, labels)
            >>> objective.add_class_sums(*objective.class_sums(features))
            >>> objective.class_means, objective.class_counts
            (tensor([[0.5000, 0.5000],
                    [0.5000, 0.5000]]), tensor([2, 1]))
        """
        counts = counts.to(self.class_counts)
        self.class_counts += counts
        share = 1 / self.class_counts.clamp(min=1).to(sums.dtype)
        means = self.class_means.to(sums.dtype)
        self.class_means += (sums - counts.unsqueeze(-1) * means) * share.unsqueeze(-1)
