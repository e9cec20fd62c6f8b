"""Train the ratio of teacher and label on the validation loss of the student after a step."""

from __future__ import annotations

from math import inf
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer

from kdlight.callbacks.bilevel.fusion_term import fusion_term
from kdlight.callbacks.bilevel.ratio_step import step_ratio
from kdlight.callbacks.bilevel.repeated_loader import RepeatedLoader
from kdlight.callbacks.bilevel.run_checks import check_precision, check_run, one_loader
from kdlight.callbacks.bilevel.unrolled_rows import unrolled_rows
from kdlight.callbacks.bilevel.weights import kept_buffers
from kdlight.checks import check_choice, check_integer, check_positive, check_range, check_type
from kdlight.distributed.ranks import data_parallel_size, data_parallel_sum
from kdlight.modules import DistillationBase


class BilevelUpdate(Callback):
    r"""Trains the ratio network of a `kdlight.objectives.TGeoKD` on validation batches.

    .. math:: \min_\omega\; L_{val}(\theta'), \qquad
              \theta' = \theta - \eta \nabla_\theta L_{train}(\theta, \omega)

    Hu et al., "Less or More From Teacher: Exploiting Trilateral Geometry For Knowledge
    Distillation", 2024: the ratio is to lower the cross-entropy of the student on validation data
    after its next step. Their code leaves out this part. Here it is the one-step unrolled gradient
    of Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", 2019, section 2.3:

    .. math:: v = \nabla L_{val}(\theta'), \qquad
              \nabla_\omega \approx -\eta\, \frac{\nabla_\omega L_{train}(\theta + e v, \omega)
              - \nabla_\omega L_{train}(\theta - e v, \omega)}{2 e}, \qquad e = \frac{0.01}{|v|}

    The ratio itself is a constant of the training loss, so its features are those at
    :math:`\theta` in both terms. Then two passes of the student without a gradient suffice. An
    update takes them, a forward pass of both networks, and a forward and backward pass on a
    validation batch; it needs room for two copies of the student's weights. ``every`` makes it
    rarer.

    It happens before the optimizer step: :math:`\nabla L_{train}` is the gradient of the whole step
    before it is clipped, :math:`\eta` the learning rate of each parameter. So the step is that of
    SGD, also where the optimizer is another one. With ``accumulate_grad_batches``, the ratios of
    the last micro-batch are the ones that learn. The student is evaluated in the precision of its
    weights, where the precision of a run is mixed.

    The data are those of a method of the data module. By default they are the validation data, as
    in the paper: the student never has a gradient of them, but the ratio is fitted to them, so
    metrics on them are no longer those of unseen data. Keep a test set, or write a method that
    serves data which you set apart, such as `kdlight.data.DigitsDataModule.trusted_dataloader`.
    Their labels should be right: the network learns from them which of the two to trust. Each rank
    takes the batches that the data module gives it.

    The decay is that of the authors' code. Its rate is 0.1, for batches of the whole training set:
    with small batches, the network may run into one end of the sigmoid and stay there. So the
    default is a tenth of it; lower ``lr`` further where the logged ``ratio`` comes to 0 or 1.

    Weights, buffers such as running statistics, gradients and random numbers of the run stay as
    they are. The cross-entropy after the step is logged as ``bilevel_loss``.

    Args:
        every: number of optimizer steps between updates, at least 1.
        lr: learning rate of AdamW, not negative; 0 trains nothing.
        weight_decay: of AdamW, not negative. It is no part of the gradient, which is as small as
            :math:`\eta`: as the penalty of Adam, it would be all that the network learns.
        form: ``"finite_difference"``, as above; ``"exact"`` differentiates the gradient by
            autograd, which takes the memory of a second graph and which some kernels cannot do.
        epsilon: norm by which the weights are moved, in both directions, above 0.
        dataloader: name of the method of the data module that returns the loader.

    Raises:
        TypeError: An argument of another kind.
        ValueError: A number outside its range; when a fit is set up: an objective without a
            `kdlight.objectives.TGeoKD`, a run without a data module or without the method, manual
            optimization, FSDP1 or DeepSpeed, tensor parallelism, ``form="exact"`` with FSDP2, or
            weights in half precision.

    Attributes:
        optimizer: AdamW over the ratio network, from the start of a fit on.

    Example:
        >>> BilevelUpdate(every=0)
        Traceback (most recent call last):
        ValueError: every must be at least 1, got 0
    """

    def __init__(
        self,
        every: int = 1,
        lr: float = 0.01,
        weight_decay: float = 0.05,
        form: Literal["finite_difference", "exact"] = "finite_difference",
        epsilon: float = 0.01,
        dataloader: str = "val_dataloader",
    ) -> None:
        check_integer("every", every, 1)
        for name, value in (("lr", lr), ("weight_decay", weight_decay), ("epsilon", epsilon)):
            check_type(name, value, (int, float), "a number")
        check_range("lr", lr, 0.0, inf, open_high=True)
        check_range("weight_decay", weight_decay, 0.0, inf, open_high=True)
        check_choice("form", form, ("finite_difference", "exact"))
        check_positive("epsilon", epsilon)
        check_type("dataloader", dataloader, str, "the name of a method of the data module")
        self.every, self.lr, self.weight_decay = every, float(lr), float(weight_decay)
        self.form, self.epsilon, self.dataloader = form, float(epsilon), dataloader
        self.optimizer: AdamW | None = None
        self._state: dict[str, Any] = {}
        self._loader: Any = None
        self._batches: RepeatedLoader | None = None
        self._batch: Any = None

    # ---- the run

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is a ratio to train, and that it can be trained."""
        if stage == "fit":
            check_run(trainer, pl_module, self.form, self.dataloader)
            self._loader = one_loader(trainer, self.dataloader)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Create the loader and the optimizer, or restore them."""
        assert isinstance(pl_module, DistillationBase)
        fusion = fusion_term(pl_module.objective).fusion
        check_precision(pl_module, self.form)
        parameters = list(fusion.network.parameters())
        drawn = 0 if self._batches is None else self._batches.drawn
        if self.optimizer is None or not _are_same(self.optimizer, parameters):
            # the gradient has the student's learning rate as a factor: eps must be far smaller
            options: Any = {"lr": self.lr, "weight_decay": self.weight_decay, "eps": 1e-15}
            self.optimizer = AdamW(parameters, **options)
            drawn = 0  # another module is trained from the start
        self._batches = RepeatedLoader(self._loader, drawn)
        self._restore()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer, and the place in the data."""
        if self.optimizer is None or self._batches is None:
            return dict(self._state)
        return {"optimizer": self.optimizer.state_dict(), "drawn": self._batches.drawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, or keep it until the fit starts."""
        self._state = dict(state_dict)
        if self._batches is not None:  # under FSDP2, checkpoints are read after on_fit_start
            self._restore()

    def _restore(self) -> None:
        state, self._state = self._state, {}
        if state:
            assert self.optimizer is not None
            assert self._batches is not None
            self.optimizer.load_state_dict(state["optimizer"])
            self._batches = RepeatedLoader(self._batches.loader, state["drawn"])

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch."""
        self._batch = batch

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Free the batch."""
        self._batch = None

    # ---- the update

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Update the ratio network, before the student's weights change."""
        assert isinstance(pl_module, DistillationBase)
        step = pl_module.last_step
        if trainer.global_step % self.every or step is None or step.skipped:
            return
        term = fusion_term(pl_module.objective)
        with isolate_rng(), kept_buffers(pl_module):
            assert self._batches is not None
            held_out = trainer.precision_plugin.convert_input(next(self._batches))
            held_out = trainer.strategy.batch_to_device(held_out, pl_module.device)
            rows = unrolled_rows(
                trainer,
                pl_module,
                optimizer,
                self._batch,
                held_out,
                exactly=self.form == "exact",
                epsilon=self.epsilon,
            )
        if rows.slopes is not None:
            assert self.optimizer is not None
            count = len(rows.slopes)
            scale = -term.weight() / _denominator(trainer, pl_module, step.count, count)
            slopes = rows.slopes * scale
            step_ratio(trainer, term.fusion.network, self.optimizer, rows.features, slopes)
        if term.fusion.classes is not None:
            sums = term.fusion.class_sums(rows.features)
            term.fusion.add_class_sums(*(data_parallel_sum(trainer, each) for each in sums))
        if not trainer.barebones:
            pl_module.log(f"{pl_module.log_prefix}/bilevel_loss", rows.loss)


def _are_same(optimizer: Optimizer, parameters: list[Parameter]) -> bool:
    own = [each for group in optimizer.param_groups for each in group["params"]]
    return [id(each) for each in own] == [id(each) for each in parameters]


def _denominator(trainer: Trainer, module: DistillationBase, units: float, rows: int) -> float:
    """Return what the loss of the rows of a micro-batch is divided by.

    Args:
        trainer: the trainer.
        module: the module.
        units: of the optimizer step, over all micro-batches and ranks.
        rows: of the last micro-batch of this rank.
    """
    if module.normalization == "local":
        batches = trainer.accumulate_grad_batches * data_parallel_size(trainer)
        return float(max(rows, 1) * batches)
    return max(units, 1.0)
