"""Train one student so that it works at several depths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from kdlight.callbacks.elastic.checks import (
    check_accumulation,
    check_depths,
    check_features,
    check_strategy,
    find_sub_networks,
)
from kdlight.callbacks.elastic.depth_losses import DepthLosses
from kdlight.callbacks.elastic.depth_validation import DepthValidation, depths_to_validate
from kdlight.callbacks.elastic.depths import sandwich
from kdlight.callbacks.elastic.forward_passes import ElasticPasses
from kdlight.callbacks.elastic.sub_network_search import SubNetworkSearch
from kdlight.callbacks.export_directories import check_directories
from kdlight.checks import check_integer
from kdlight.models.pruning.layer_pruning import choose_layers
from kdlight.models.pruning.layer_search import RankedLayers
from kdlight.models.pruning.sub_network_check import check_sub_network
from kdlight.modules.base import DistillationBase


class ElasticDepth(Callback):
    r"""Trains a student together with its sub-networks of fewer layers, on shared weights.

    .. math:: L = \sum_{d \in \{d_{1}, \dots, d_{random}, d_{min}, D\}}
              objective(student_d, teacher, labels)

    Xu, Mukherjee et al., "Few-shot Task-agnostic Neural Architecture Search for Distilling Large
    Language Models", 2022 (AutoDistil), whose super-student also varies in width; the sandwich rule
    is that of Yu, Huang, "Universally Slimmable Networks and Improved Training Techniques", 2019.
    Choose it for students of several sizes from one fit. The student of depth d has the d evenly
    spaced layers that `kdlight.models.choose_layers` chooses, among them the first and the last.

    An optimizer step trains ``2 + random`` sub-networks: random depths, the smallest and the
    largest. Each has a micro-batch of its own, so that ``accumulate_grad_batches`` must be
    ``2 + random``, and the gradient is that of all their units, divided once by their number. The
    largest network comes last, whose backward pass is the one that DDP synchronizes. To train all
    of them on the same samples, as the paper does, let the loader repeat each batch
    ``2 + random`` times. A last step of an epoch with fewer micro-batches trains fewer random
    depths, and the largest network last.

    The student is whole between forward passes: checkpoints, generated text, validation and
    `ExportStudent` are those of all layers. The depths depend on the seed and the step alone, so
    that ranks agree and a resumed run draws the same.

    Logged for each optimizer step: ``train/depth``, the mean depth, and ``train/depth_D/loss``, the
    objective's loss at depth D. With the `kdlight.DistillationMixin` the names begin with
    ``distillation/``. In validation: ``val/depth_D/forward_kl`` at some depths, KL(teacher ||
    student) at the temperature of the metrics.

    With ``max_parameters``, at the end of the fit all depths are compared by their KL on the
    validation data. A table is printed, and the best sub-network that is small enough is saved like
    a student (`ExportStudent`). `kdlight.models.rank_layers` does the same for any lists of layers.

    Args:
        min_layers: the smallest number of layers.
        random: number of random depths in an optimizer step, drawn from those between the smallest
            and the largest, each at most once.
        seed: seed of the draw.
        validate_depths: depths to validate besides the whole student; None for the smallest and the
            middle one; an empty list for none.
        max_parameters: number of parameters that the best sub-network may have; None for no search.
        directory: where to save the best sub-network; None for ``sub_network`` in the log directory
            of the run.
        overwrite: replace a model that the directory holds already.

    Raises:
        TypeError: A number that is no integer.
        ValueError: A number outside its range; a run with other micro-batches; a student whose
            layers cannot be left out, see `kdlight.prune_layers`; an objective that compares a
            layer which a sub-network does not have. Before the first step.
        FileExistsError: The directory holds a model, and overwrite is False.

    Example:
        >>> ElasticDepth(min_layers=4).random
        2
    """

    def __init__(
        self,
        min_layers: int,
        random: int = 2,
        seed: int = 0,
        validate_depths: list[int] | None = None,
        max_parameters: float | None = None,
        directory: str | None = None,
        overwrite: bool = False,
    ) -> None:
        check_integer("min_layers", min_layers, 1)
        check_integer("random", random, 0)
        check_integer("seed", seed, 0)
        self.min_layers, self.random, self.seed = min_layers, random, seed
        self.validate_depths = validate_depths
        self.search = SubNetworkSearch(max_parameters, directory, overwrite)
        self._losses = DepthLosses()
        self._passes: ElasticPasses

    @property
    def ranked(self) -> list[RankedLayers]:
        """The result of the search, the best first; empty before the end of the fit."""
        return self.search.ranked

    def export_directory(self, trainer: Trainer) -> Path | None:
        """Return where the best sub-network is saved; None without a search."""
        searches = self.search.max_parameters is not None
        return self.search.export_directory(trainer) if searches else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the student has all the sub-networks, and that the run fits."""
        self.networks = find_sub_networks(pl_module)
        assert isinstance(pl_module, DistillationBase)
        sizes = self.networks.depth, self.min_layers
        check_depths(*sizes, random=self.random)
        validated = depths_to_validate(*sizes, self.validate_depths, teacher=pl_module.teacher)
        if stage == "fit":
            check_accumulation(trainer, 2 + self.random)
            check_strategy(trainer)
            check_features(pl_module, self.networks, self.min_layers)
            self.search.check(trainer, pl_module, self.networks, self.min_layers)
            check_directories(trainer)
        for depth in {*validated, *range(self.min_layers, self.networks.depth)}:
            check_sub_network(self.networks.model, depth)
        self._validation = DepthValidation(self.networks, validated)
        self._passes = ElasticPasses(self.networks)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to choose layers, and to record the loss of each depth."""
        assert isinstance(pl_module, DistillationBase)
        self.search.check_data(trainer)
        self._passes.attach()
        self._losses.attach(pl_module.objective)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Choose the depth of the micro-batch."""
        bounds = self.min_layers, self.networks.depth
        depths = sandwich(*bounds, random=self.random, seed=self.seed, step=trainer.global_step)
        # a step ends with its last micro-batch, or with that of the epoch
        accumulates = trainer.fit_loop.epoch_loop._should_accumulate()
        depth = depths[batch_idx % len(depths) if accumulates else -1]
        self._losses.depth = depth
        self._passes.choose(choose_layers(depth, depth=self.networks.depth))

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Check that the student ran with the chosen layers."""
        if not self._passes.count:
            raise RuntimeError(
                "ElasticDepth chose layers, but training_step did not run the student in training"
                " mode, so that all layers would be trained or none; call train() of the student's"
                " network, and run it in every training step"
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let the student run all layers again; log a completed step."""
        assert isinstance(pl_module, DistillationBase)
        self._passes.choose(None)
        self._losses.depth = None
        if pl_module.last_step is None:  # gradients are still being accumulated
            return
        prefix, means = pl_module.log_prefix, self._losses.take_means(trainer)
        pl_module.log_dict({f"{prefix}/depth_{d}/loss": mean for d, mean in means.items()})
        if means:
            pl_module.log(f"{prefix}/depth", sum(means) / len(means))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start new sums."""
        self._validation.reset()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Evaluate some depths on a batch of the first loader."""
        assert isinstance(pl_module, DistillationBase)
        if dataloader_idx == 0:
            self._validation.update(trainer, pl_module, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the KL of each depth."""
        assert isinstance(pl_module, DistillationBase)
        self._validation.log(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Search the best sub-network and save it, if there is a budget."""
        assert isinstance(pl_module, DistillationBase)
        self._release()
        depths = range(self.min_layers, self.networks.depth + 1)
        self.search.run(trainer, pl_module, self.networks, depths)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Leave the student as it was."""
        self._release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the student as it was."""
        self._release()

    def _release(self) -> None:
        if hasattr(self, "_passes"):  # not after an error in the setup
            self._passes.detach()
        self._losses.detach()
