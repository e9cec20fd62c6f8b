"""Export the student at the end of a fit, for use without kdlight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from kdlight.export import (
    check_directory,
    check_exportable,
    describe_network,
    export_student,
    find_network,
)
from kdlight.modules import StandaloneModule


class ExportStudent(Callback):
    """Saves the student with ``save_pretrained`` at the end of a fit, with its tokenizer.

    ``AutoModelForCausalLM.from_pretrained(directory)`` loads it in a process without kdlight. A
    model card names teacher, objective, data, steps and metrics. Under FSDP2 the sharded weights
    are gathered. The first rank writes. For a checkpoint, ``kdlight export`` does the same.

    Args:
        directory: where to save; None for ``student`` in the log directory of the run.
        overwrite: replace a model that the directory holds already.
        adapter_only: save only the adapters of a LoRA student, without merging them.
        network: the network to save, if several are trained; its name is the default of
            ``directory``.

    Raises:
        ValueError: The student cannot be saved in this way; no network of this name is trained; the
            module has no networks of its own.
        FileExistsError: The directory holds a model, and overwrite is False; raised before
            training starts.

    Example:
        >>> ExportStudent("exported", overwrite=True).directory
        'exported'
    """

    def __init__(
        self,
        directory: str | None = None,
        overwrite: bool = False,
        adapter_only: bool = False,
        network: str = "student",
    ) -> None:
        self.directory = directory
        self.overwrite = overwrite
        self.adapter_only = adapter_only
        self.network = network

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before training that its result can be saved."""
        if not isinstance(pl_module, StandaloneModule):
            raise ValueError(
                "ExportStudent needs a module derived from kdlight.modules.StandaloneModule, such"
                " as DistillationModule or OnlineDistillationModule, got"
                f" {type(pl_module).__name__}"
            )
        network = find_network(pl_module, self.network)
        check_exportable(network, adapter_only=self.adapter_only)
        if stage == "fit":
            check_directory(
                self._directory(trainer), overwrite=self.overwrite, adapter_only=self.adapter_only
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the student."""
        assert isinstance(pl_module, StandaloneModule)
        weights = _gather(trainer, self.network)
        run = describe_network(pl_module.describe_run(), self.network)
        directory = self._directory(trainer)
        if not trainer.is_global_zero:
            return
        export_student(
            find_network(pl_module, self.network),
            directory,
            tokenizer=getattr(trainer.datamodule, "tokenizer", None),  # type: ignore[attr-defined]
            state_dict=weights,
            run=run,
            overwrite=True,  # checked before the fit
            adapter_only=self.adapter_only,
        )
        print(f"{self.network.capitalize()} saved: {directory}")

    def _directory(self, trainer: Trainer) -> Path:
        root = trainer.log_dir or trainer.default_root_dir
        return Path(self.directory) if self.directory else Path(root) / self.network


def _gather(trainer: Trainer, network: str) -> dict[str, Any] | None:
    """Return the full weights of a sharded network, on the first rank; None if not sharded."""
    if not isinstance(trainer.strategy, (ModelParallelStrategy, FSDPStrategy)):
        return None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    model: Any = trainer.strategy.model
    weights = get_model_state_dict(model, options=options)
    return {
        name.removeprefix(f"{network}."): value
        for name, value in weights.items()
        if name.startswith(f"{network}.")
    }
