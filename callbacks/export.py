"""Export the student when the fit ends, to be used without kdlight."""

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


class ExportStudent(Callback):
    """Saves the student with ``save_pretrained`` when the fit ends, tokenizer included.

    A fresh process then reads it by ``AutoModelForCausalLM.from_pretrained(directory)``. A model
    card beside it names teacher, objective, data, steps and metrics. Works under DDP and FSDP2 too:
    what is sharded is gathered, and the first rank writes. From a checkpoint, ``kdlight export``
    does the same.

    Args:
        directory: where to save; None for ``student`` in the log directory of the run.
        overwrite: save even where the directory holds a model already.
        adapter_only: save the adapters of a LoRA student alone, instead of merged.
        network: which to save, where several learn together; ``directory`` is then by default its
            name.

    Raises:
        ValueError: the student cannot be saved so; no network of that name is trained.
        FileExistsError: the directory holds a model, and overwrite is False; raised before
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
        """Find out before the work whether its result can be saved."""
        network = find_network(pl_module, self.network)
        check_exportable(network, adapter_only=self.adapter_only)
        if stage == "fit":
            check_directory(
                self._directory(trainer), overwrite=self.overwrite, adapter_only=self.adapter_only
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the student."""
        weights = _gather(trainer, self.network)
        run = describe_network(pl_module.describe_run(), self.network)  # type: ignore[arg-type]
        directory = self._directory(trainer)
        if not trainer.is_global_zero:
            return
        export_student(
            find_network(pl_module, self.network),
            directory,
            tokenizer=getattr(trainer.datamodule, "tokenizer", None),  # type: ignore[attr-defined]
            state_dict=weights,
            run=run,
            overwrite=True,  # asked before the fit
            adapter_only=self.adapter_only,
        )
        print(f"{self.network.capitalize()} saved: {directory}")

    def _directory(self, trainer: Trainer) -> Path:
        root = trainer.log_dir or trainer.default_root_dir
        return Path(self.directory) if self.directory else Path(root) / self.network


def _gather(trainer: Trainer, network: str) -> dict[str, Any] | None:
    """Full weights of a sharded network, on the first rank; None where they are whole already."""
    if not isinstance(trainer.strategy, (ModelParallelStrategy, FSDPStrategy)):
        return None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    model: Any = trainer.strategy.model
    whole = get_model_state_dict(model, options=options)
    return {
        name.removeprefix(f"{network}."): value
        for name, value in whole.items()
        if name.startswith(f"{network}.")
    }
