"""The folder in which a server finds the weights of a student."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kdlight.checks import check_type
from kdlight.models.saving import save_network
from kdlight.rollouts.versions import VERSION, new_run

OWN = re.compile(f"(weights|part)-{VERSION}")
"""The folders that are made here; those of anybody else are left alone."""


class SavedWeights:
    """A folder with the weights of one step, which a server may read at any time.

    The weights of each step have a folder of their own, which gets its name when it is complete.
    That of the step before is removed by `forget_others`, when the server has read the new one.

    Args:
        folder: where to save; it belongs to one run.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=5, n_embd=4, n_layer=1, n_head=1))
        >>> with TemporaryDirectory() as folder:
        ...     SavedWeights(folder).save(model, "0a1b2c3d-12").name
        'weights-0a1b2c3d-12'
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()

    def save(
        self,
        network: Any,
        name: str,
        *,
        state_dict: Mapping[str, Tensor] | None = None,
        adapter_only: bool = False,
    ) -> Path:
        """Write the weights, and return the folder with them.

        Args:
            network: the network.
            name: tells these weights from all others, see `kdlight.rollouts.versions`.
            state_dict: the whole weights of a network that is sharded.
            adapter_only: write the adapters of a `kdlight.LoRACausalLM` only.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self.folder / f"weights-{name}"
        part = self.folder / f"part-{name}"
        for old in (path, part):
            if old.exists():
                shutil.rmtree(old)
        self.folder.mkdir(parents=True, exist_ok=True)
        save_network(network, part, state_dict=state_dict, adapter_only=adapter_only)
        part.rename(path)
        return path

    def start_run(self) -> str:
        """Remove what an earlier run has left, and return a name that no other run has."""
        self.forget_others()
        return new_run()

    def forget_others(self, kept: Path | None = None) -> None:
        """Remove the weights of other steps, and what an interrupted run has left."""
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path != kept and OWN.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)


def check_folder(folder: Any) -> None:
    """Raise an error for what is no path of a folder and not None.

    Example:
        >>> check_folder("")
        Traceback (most recent call last):
        ValueError: folder must be the path of a folder of this run, or None, got ''
    """
    words = "the path of a folder of this run, or None"
    check_type("folder", folder, (str, Path, type(None)), words)
    if folder == "":
        raise ValueError(f"folder must be {words}, got ''")


def saved_weights(folder: str | Path | None, network: Any) -> SavedWeights:
    """Return where the weights of a network are saved.

    Raises:
        ValueError: there is no folder, or the network cannot be saved.

    Example:
        >>> saved_weights(None, None)
        Traceback (most recent call last):
        ValueError: VLLMRollouts has folder=None, but a student that is trained is sent to the ...
    """
    if folder is None:
        raise ValueError(
            "VLLMRollouts has folder=None, but a student that is trained is sent to the server"
            " again and again; set folder to one that this process writes and the server reads"
        )
    if not hasattr(network, "save_pretrained"):
        raise ValueError(
            f"VLLMRollouts saves the student for the server, but {type(network).__name__} has no"
            " save_pretrained; use a kdlight.CausalLM"
        )
    return SavedWeights(folder)
