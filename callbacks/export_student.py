"""Export the student at the end of a fit, for use without kdlight."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from kdlight.callbacks.export_directories import check_directories
from kdlight.callbacks.inference.gathered_weights import gathered_weights
from kdlight.callbacks.module_check import check_module
from kdlight.checkpoints import check_writable, writable_folder
from kdlight.export import (
    check_directory,
    check_exportable,
    describe_module,
    describe_network,
    export_student,
    find_network,
)
from kdlight.modules.base import DistillationBase


class ExportStudent(Callback):
    """Saves the student with ``save_pretrained`` at the end of a fit, with its tokenizer.

    ``AutoModelForCausalLM.from_pretrained(directory)`` loads it in a process without kdlight. A
    model card names teacher, objective, data, steps and metrics. Under FSDP2 the sharded weights
    are gathered. The first rank writes. For a checkpoint, ``kdlight export`` does the same.

    Whether the directory can be written to is tried before training. If it cannot be any more at
    the end, the student is saved in ``default_root_dir`` or else in a temporary directory, and a
    warning says where.

    The network of a module with the `kdlight.DistillationMixin` is its ``student_network()``.

    Args:
        directory: where to save; None for ``student`` in the log directory of the run.
        overwrite: replace a model that the directory holds already.
        adapter_only: save only the adapters of a LoRA student, without merging them.
        network: the network to save, if several are trained; its name is the default of
            ``directory``.
        adapter_scale: multiplies what the adapters of a LoRA student add to the merged weights, see
            `kdlight.export.export_student`; None for 1.

    Raises:
        ValueError: The student cannot be saved in this way; no network of this name is trained; the
            module is not one of kdlight, or does not tell its network.
        FileExistsError: The directory holds a model, and overwrite is False; raised before
            training starts.
        OSError: The directory cannot be written to; raised before training starts.

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
        adapter_scale: float | None = None,
    ) -> None:
        self.directory = directory
        self.overwrite = overwrite
        self.adapter_only = adapter_only
        self.network = network
        self.adapter_scale = adapter_scale

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before training that its result can be saved."""
        module = check_module("ExportStudent", pl_module)
        network = find_network(module, self.network)
        check_exportable(network, adapter_only=self.adapter_only, adapter_scale=self.adapter_scale)
        if stage == "fit":
            check_directory(
                self.export_directory(trainer),
                overwrite=self.overwrite,
                adapter_only=self.adapter_only,
            )
            check_directories(trainer)
            self.check_writable(trainer)

    def check_writable(self, trainer: Trainer) -> None:
        """Raise an OSError on the first rank if it cannot write to the directory."""
        directory = self.export_directory(trainer)  # on all ranks, which communicate for it
        if trainer.is_global_zero:
            check_writable(directory)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the student."""
        assert isinstance(pl_module, DistillationBase)
        network = find_network(pl_module, self.network)
        weights = gathered_weights(trainer, pl_module, network)
        run = describe_network(describe_module(pl_module), self.network)
        directory = self.export_directory(trainer)
        if not trainer.is_global_zero:
            return
        save = partial(
            export_student,
            network,
            tokenizer=getattr(trainer.datamodule, "tokenizer", None),  # type: ignore[attr-defined]
            state_dict=weights,
            run=run,
            overwrite=True,  # checked before the fit
            adapter_only=self.adapter_only,
            adapter_scale=self.adapter_scale,
        )
        try:
            save(directory)
        except Exception as error:  # a full disk has other types in other libraries
            directory = self._save_elsewhere(directory, trainer.default_root_dir, save, error)
        print(f"{self.network.capitalize()} saved: {directory}")

    def _save_elsewhere(
        self, wanted: Path, root: str, save: Callable[[Path], None], error: Exception
    ) -> Path:
        """Save in another directory, as the work would be lost otherwise."""
        name = f"{self.network}-{time.strftime('%Y%m%d-%H%M%S')}"
        directory = writable_folder([root]) / name
        try:
            save(directory)
        except Exception:
            raise error from None
        rank_zero_warn(
            f"{str(wanted)!r} cannot be written to ({type(error).__name__}: {error}); the"
            f" {self.network} is saved in {str(directory)!r} instead"
        )
        return directory

    def export_directory(self, trainer: Trainer) -> Path:
        """Return where the network is saved."""
        root = trainer.log_dir or trainer.default_root_dir
        return Path(self.directory) if self.directory else Path(root) / self.network
