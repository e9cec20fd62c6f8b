"""Layer-wise distillation: modules of a student learn independently of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdlight.distributed.sharding import clip_norm
from kdlight.features import LayerMapping
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.models import StudentRecipe, rebuild_config
from kdlight.modules.fit_checks import check_context, check_strategy
from kdlight.modules.label_format import LabelFormat
from kdlight.modules.layer_checks import check_one_stack, check_pairs, check_whole
from kdlight.modules.layer_loss import LayerLoss, RowLoss
from kdlight.modules.layer_metrics import LayerwiseMetrics
from kdlight.modules.layerwise_losses import LayerwiseLosses
from kdlight.modules.optimizers import Groups, default_optimizer, trainable
from kdlight.modules.part_checks import check_network, check_teacher
from kdlight.modules.standalone import from_config
from kdlight.modules.step_driver import STUDENT
from kdlight.objectives import Objective
from kdlight.teachers import FrozenTeacher, as_teacher, check_shared

LIVE_ARGUMENTS = ["student", "teacher", "pairs", "loss", "optimizer", "lr_scheduler"]


class LayerwiseDistillationModule(LayerwiseLosses):
    r"""Trains modules of a student to compute what modules of a teacher compute.

    Each student module :math:`s_i` gets the arguments that its teacher module :math:`t_i` gets in
    the teacher's own forward pass: hidden states, masks, positions. It learns to return the same:

    .. math:: L_i = \frac{1}{N} \sum_{n=1}^{N} d\bigl(s_i(x_i)_n, t_i(x_i)_n\bigr)

    over the valid positions, where :math:`x_i` is the input of :math:`t_i`. So modules learn
    independently of each other: the gradient of one depends on no other, and they can be trained in
    one run or in several. However deep the student is, the activations of only one of its modules
    are in memory at a time. Everything outside of the pairs stays as it is. Choose it as a first
    phase where layers are replaced by others (pruned, low-rank, of another kind), and train the
    whole student with a `kdlight.DistillationModule` afterwards.

    Validation compares the modules in the same way (``val/modules/PATH``), and the logits of the
    assembled student, end to end, with those of the teacher.

    The valid positions are those with a label, as they are for logits; without labels, those of the
    ``attention_mask`` of a batch, or else all samples. Where an output has other positions than the
    labels (a map beside the label of an image), the mean over the positions of a sample, without
    padding, is weighted by the number of valid labels of the sample.

    Wójcik et al., "Adaptive Computation Modules: Granular Conditional Computation For Efficient
    Inference", 2023, trains the modules of its first phase in this way.

    Gradients are clipped for each pair by itself. The optimizer has a parameter group for each
    pair, which is equivalent to an optimizer for each. FSDP2 and DeepSpeed are not supported, as
    they gather the weights of a module only when the whole student runs.

    Args:
        student: the network whose modules are trained; or a recipe that builds it from the
            teacher's network.
        teacher: a network, or a `kdlight.FrozenTeacher`.
        pairs: the path of the teacher's module for each path of a module of the student, such as
            ``{"layers.0.mlp": "layers.0.mlp"}``, or a `kdlight.features.LayerMapping`. Of a module
            that returns a tuple or a mapping, the first tensor is compared;
            ``"PATH:output.KEY"`` names another one.
        loss: ``"mse"``, ``"smooth_l1"``, ``"cosine"`` or ``"normalized_mse"``, see
            `kdlight.losses.feature_distance`; or a function of rows of valid
            positions, ``(n, D), (n, D) -> (n,)``.
        channel_dim: axis of the channels; None for the last one, and axis 1 of outputs with four
            axes or more.
        optimizer: from parameter groups to an optimizer.
        lr_scheduler: from the optimizer to a learning-rate schedule.
        lr_scheduler_config: see `kdlight.DistillationModule`.
        normalization: see `kdlight.DistillationModule`.
        labels: see `kdlight.DistillationModule`.
        ignore_index: see `kdlight.DistillationModule`.
        temperature: of the divergences among the validation metrics.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a path leads to no module; paired modules that share parameters, or have none;
            the teacher has no live network; an unknown loss or normalization.

    Example:
        >>> from kdlight import SingleInput
        >>> net = lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        >>> module = LayerwiseDistillationModule(
        ...     SingleInput(net()), SingleInput(net()), pairs={"net.0": "net.0", "net.2": "net.2"}
        ... )
        >>> sorted(module.student_modules())
        ['net.0', 'net.2']
    """

    def __init__(
        self,
        student: nn.Module | StudentRecipe,
        teacher: nn.Module | FrozenTeacher,
        pairs: dict[str, str] | LayerMapping,
        loss: Literal["mse", "smooth_l1", "cosine", "normalized_mse"] | RowLoss = "mse",
        channel_dim: int | None = None,
        optimizer: Callable[[Iterable], Optimizer] = default_optimizer,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        lr_scheduler_config: dict[str, Any] | None = None,
        normalization: Literal["global", "local"] = "global",
        labels: Literal["auto", "causal", "aligned", "none"] = "auto",
        ignore_index: int = IGNORE_INDEX,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        check_teacher(teacher)
        objective = LayerLoss(pairs, loss, channel_dim)
        self.save_hyperparameters(ignore=[] if from_config() else LIVE_ARGUMENTS)
        label_format = LabelFormat(labels, ignore_index)
        frozen = as_teacher(teacher)
        networks = [] if frozen is None else frozen.networks()
        if len(networks) != 1:
            raise ValueError(
                "teacher must be one live network, whose modules run together with the student's,"
                f" got a {type(teacher).__name__} with {len(networks)} networks"
            )
        if not isinstance(student, StudentRecipe):
            check_network("student", student)
        self.student = student.build(networks[0]) if isinstance(student, StudentRecipe) else student
        self.rebuilding = {"student": rebuild_config(student)}
        check_shared(self.student, frozen)
        self.setup_distillation(objective, frozen, normalization, "auto", label_format)
        self.setup_optimizers(optimizer, lr_scheduler, lr_scheduler_config)
        objective.bind(self.student, networks[0])
        self.metrics = LayerwiseMetrics(objective.paths, temperature)
        self.module_names = check_pairs(self.student, objective.paths)
        self._frozen: list[nn.Parameter] = []

    def learners(self) -> dict[str, tuple[nn.Module, Objective]]:
        """Return the student and its objective."""
        return {STUDENT: (self.student, self.objective)}

    def parameter_groups(self) -> dict[str, Groups]:
        """Return a group for each pair."""
        groups = [{"params": trainable(each)} for each in self.student_modules().values()]
        return {"student": groups, "objective": []}

    def student_network(self) -> nn.Module:
        """Return ``student``."""
        return self.student

    def parts(self) -> dict[str, Any]:
        """Return ``student``, ``teacher`` and ``objective``."""
        return {
            "student": self.student,
            "teacher": self.teacher.networks()[0],
            "objective": self.objective,
        }

    # ---- the run

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of each pair by themselves."""
        for module in self.student_modules().values() if gradient_clip_val else ():
            if gradient_clip_algorithm == "value":
                nn.utils.clip_grad_value_(trainable(module), gradient_clip_val or 0.0)
            else:
                clip_norm(trainable(module), gradient_clip_val or 0.0)

    def prepare_run(self) -> None:
        """Check that the parts fit before any work is done."""
        strategy, network = self.trainer.strategy, self.teacher.networks()[0]
        check_whole(strategy)
        check_shared(self.student, self.teacher)
        check_strategy(strategy, self.teacher, self.normalization, self.student)
        check_context(self.trainer.datamodule, [("student", self.student), ("teacher", network)])
        super().prepare_run()
        check_one_stack(self.student_kind())
        if isinstance(strategy, DDPStrategy) and self.trainer.state.fn == "fit":
            # DDP waits in each step for all gradients that are required when it wraps the module
            trained = {id(p) for m in self.student_modules().values() for p in m.parameters()}
            self._frozen = [p for p in trainable(self.student) if id(p) not in trained]
            for parameter in self._frozen:
                parameter.requires_grad_(False)

    def check_optimizers(self) -> None:
        """Let what is outside of the pairs require gradients again, now that DDP has started."""
        while self._frozen:
            self._frozen.pop().requires_grad_(True)
