"""From a batch to the losses of modules that learn independently of each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kdlight.data.label_positions import check_padding
from kdlight.features.calls import ModuleCalls
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.models import call_network
from kdlight.modules.layer_loss import LayerLoss
from kdlight.modules.layer_metrics import LayerwiseMetrics
from kdlight.modules.layer_pass import LayerPass
from kdlight.modules.standalone import StandaloneModule
from kdlight.modules.step_driver import STUDENT
from kdlight.objectives import Loss, LossInputs
from kdlight.sources import Logits


class LayerwiseLosses(StandaloneModule):
    """Computes the losses of pairs of modules, while the teacher runs on a batch.

    The base of `kdlight.LayerwiseDistillationModule`, which says what is computed, and has the
    networks.

    Attributes:
        objective: compares the outputs of the modules of each pair.
        metrics: of each pair, and of the assembled student.
        module_names: the full name of each module of the student by its path in ``pairs``.

    Example:
        >>> from kdlight import LayerwiseDistillationModule
        >>> issubclass(LayerwiseDistillationModule, LayerwiseLosses)
        True
    """

    objective: LayerLoss
    metrics: LayerwiseMetrics
    module_names: Mapping[str, str]

    def student_modules(self) -> dict[str, nn.Module]:
        """Return the modules that are trained, by their path in ``pairs``."""
        return {path: self.student.get_submodule(name) for path, name in self.module_names.items()}

    def student_logits(self, batch: Any) -> Logits:
        """Return the logits of the assembled student for ``batch``, ``(..., V)``."""
        return call_network(self.student, batch)

    def feature_network(self) -> nn.Module:
        """Return ``student``, in which the paths of ``pairs`` are found."""
        return self.student

    def call_module(
        self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a module of the student with the arguments of its teacher module.

        Override it for a module with other arguments, or to train another method of it.

        Args:
            path: the path of the student's module, as in ``pairs``.
            module: the student's module.
            args: positional arguments that the teacher's module was called with.
            kwargs: its keyword arguments.
        """
        return module(*args, **kwargs)

    def valid_positions(self, batch: Any) -> Tensor | None:
        """Return the mask of valid positions, ``(B,)`` or ``(B, T)``; None if all are valid.

        Override it where neither the labels nor the ``attention_mask`` of a batch tell.
        """
        labels = self.aligned_labels(batch)
        if labels is None:
            mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
            return mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None
        mask = valid_labels(labels)
        if self.is_first_batch and mask.shape == labels.shape:
            check_padding(labels, mask, batch)
        return mask

    def module_losses(self, batch: Any) -> tuple[Logits, LayerPass]:
        """Run the teacher, and each student module at the call of its teacher module.

        Returns:
            The logits of the teacher, and the losses of the modules.
        """
        run = LayerPass(
            self.objective,
            self.student_modules(),
            self.valid_positions(batch),
            batch,
            self.student,
            self.call_module,
            scale=loss_scale(self._trainer),
        )
        network = self.teacher.networks()[0]
        with ModuleCalls(network, set(self.objective.paths.values()), run.observe):
            logits = self.teacher_logits(batch)
        assert logits is not None
        return logits, run

    def learner_losses(self, batch: Any) -> dict[str, tuple[Loss, LossInputs]]:
        """Compute the losses of all pairs."""
        _, run = self.module_losses(batch)
        self.is_first_batch = False
        return {STUDENT: (run.loss(), run.inputs)}

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Compare the modules, and the assembled student with the teacher."""
        metrics = self.loader_metrics.get(dataloader_idx, self.network_metrics())[""]
        assert isinstance(metrics, LayerwiseMetrics)
        teacher, run = self.module_losses(batch)
        student = self.teacher.mask_student(self.student_logits(batch))
        loss = run.loss()
        metrics.update(self.make_loss_inputs(batch, student, teacher), loss)
        metrics.update_modules(run.totals, loss.count)


def valid_labels(labels: Tensor) -> Tensor:
    """Return where labels count; for labels that are numbers, ``(B, ...)``, which samples count.

    Example:
        >>> import torch
        >>> valid_labels(torch.tensor([3, -100])), valid_labels(torch.tensor([[0.5, float("nan")]]))
        (tensor([ True, False]), tensor([True]))
    """
    if not labels.is_floating_point():
        return labels != IGNORE_INDEX
    valid = ~labels.isnan() & (labels != IGNORE_INDEX)
    return valid.flatten(1).any(1) if valid.dim() > 1 else valid


def loss_scale(trainer: Any) -> float:
    """Return the factor by which mixed precision multiplies a loss, against underflow in float16.

    Example:
        >>> loss_scale(None)
        1.0
    """
    scaler = getattr(getattr(trainer, "precision_plugin", None), "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())
