"""The best sub-network within a budget, found at the end of a fit and saved."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from kdlight.callbacks.elastic.depth_validation import DepthValidation
from kdlight.callbacks.inference.batches import validation_batches
from kdlight.callbacks.report.table import aligned_table
from kdlight.checkpoints import check_writable
from kdlight.checks import check_positive, check_type
from kdlight.distributed.whole import keeps_networks_whole
from kdlight.export import check_directory, describe_module, export_student
from kdlight.models import CausalLM
from kdlight.models.pruning.layer_pruning import choose_layers, prune_layers
from kdlight.models.pruning.layer_search import RankedLayers
from kdlight.models.pruning.sub_network import SubNetworks
from kdlight.modules.base import DistillationBase


class SubNetworkSearch:
    """Ranks depths of a trained student by their held-out KL, and saves the best one.

    Args:
        max_parameters: number of parameters that it may have; None for no search.
        directory: where to save it; None for ``sub_network`` in the log directory of the run.
        overwrite: replace a model that the directory holds already.

    Attributes:
        ranked: the result, the best first.

    Raises:
        ValueError: ``max_parameters`` is not above 0.

    Example:
        >>> SubNetworkSearch(-1)
        Traceback (most recent call last):
        ValueError: max_parameters must be above 0 and finite, got -1
    """

    def __init__(
        self, max_parameters: float | None, directory: str | None = None, overwrite: bool = False
    ) -> None:
        if max_parameters is not None:
            check_type("max_parameters", max_parameters, (int, float), "a number")
            check_positive("max_parameters", max_parameters)
        self.max_parameters, self.directory, self.overwrite = max_parameters, directory, overwrite
        self.ranked: list[RankedLayers] = []

    def check(
        self, trainer: Trainer, module: DistillationBase, networks: SubNetworks, smallest: int
    ) -> None:
        """Check before training that a sub-network can be found and saved after it."""
        if self.max_parameters is None:
            return
        if module.teacher is None:
            raise ValueError(
                "max_parameters asks for the sub-network with the lowest KL from the teacher, but"
                " the teacher is None; give one, or leave max_parameters out"
            )
        if not keeps_networks_whole(trainer.strategy):
            raise ValueError(
                f"max_parameters asks for a pruned student, but {type(trainer.strategy).__name__}"
                " shards it; leave max_parameters out, export the whole student (ExportStudent),"
                " and use kdlight.models.rank_layers and kdlight.prune_layers on it"
            )
        size = networks.count_parameters(smallest)
        if size > self.max_parameters:
            raise ValueError(
                f"max_parameters is {self.max_parameters:,.0f}, but the smallest sub-network, of"
                f" {smallest} layers, has {size:,} parameters; raise it, or lower min_layers"
            )
        directory = self.export_directory(trainer)
        check_directory(directory, overwrite=self.overwrite)
        if trainer.is_global_zero:
            check_writable(directory)

    def check_data(self, trainer: Trainer) -> None:
        """Check that there is held-out data, as soon as the loaders are known."""
        if self.max_parameters is not None and not sum(trainer.num_val_batches or [0]):
            raise ValueError(
                "max_parameters compares sub-networks on the validation data, but the run has none;"
                " give it a val_dataloader, or leave max_parameters out"
            )

    def run(
        self,
        trainer: Trainer,
        module: DistillationBase,
        networks: SubNetworks,
        depths: Sequence[int],
    ) -> None:
        """Rank the depths, print them, and save the best sub-network within the budget."""
        if self.max_parameters is None:
            return
        # the teacher runs once for all depths; each rank has its own batches
        validation = DepthValidation(networks, depths)
        for batch in validation_batches(trainer, module):
            validation.update(trainer, module, batch)
        ranked = [
            RankedLayers(
                choose_layers(depth, depth=networks.depth), networks.count_parameters(depth), mean
            )
            for depth, mean in validation.means(trainer).items()
        ]
        self.ranked = sorted(ranked, key=lambda each: each.rank)
        best = next(each for each in self.ranked if each.parameters <= self.max_parameters)
        directory = self.export_directory(trainer)
        if not trainer.is_global_zero:
            return
        if not isfinite(best.score):
            print(f"\n{render(self.ranked)}")
            rank_zero_warn(
                "no sub-network is saved: none within max_parameters has a held-out KL that is a"
                " finite number; check the student, and that the validation data have labels at"
                " some positions"
            )
            return
        run = describe_module(module) | {"student": f"{len(best.layers)} layers: {best.layers}"}
        export_student(
            CausalLM.wrap(prune_layers(networks.model, best.layers)),
            directory,
            tokenizer=getattr(trainer.datamodule, "tokenizer", None),  # type: ignore[attr-defined]
            run={name: value for name, value in run.items() if name != "metrics"},
            overwrite=True,  # checked before the fit
        )
        print(f"\n{render(self.ranked, best)}\n\nSub-network saved: {directory}")

    def export_directory(self, trainer: Trainer) -> Path:
        """Return where the best sub-network is saved."""
        root = trainer.log_dir or trainer.default_root_dir
        return Path(self.directory) if self.directory else Path(root) / "sub_network"


def render(ranked: Sequence[RankedLayers], best: RankedLayers | None = None) -> str:
    """Return a Markdown table of sub-networks, from the smallest to the largest.

    Args:
        ranked: the sub-networks and their held-out KL.
        best: the one to mark.

    Example:
        >>> print(render([RankedLayers([0, 1, 2], 900, 0.25), RankedLayers([0, 2], 600, 0.5)]))
        | layers | parameters | held-out KL |     |
        | -----: | ---------: | ----------: | :-- |
        |      2 |        600 |      0.5000 |     |
        |      3 |        900 |      0.2500 |     |
    """
    rows = [["layers", "parameters", "held-out KL", ""]]
    for each in sorted(ranked, key=lambda one: one.parameters):
        note = "best" if each is best else ""
        rows.append([str(len(each.layers)), f"{each.parameters:,}", f"{each.score:.4f}", note])
    return aligned_table(rows, left=(3,))
