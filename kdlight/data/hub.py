"""Datasets of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

HUB = "hf:"
"""Prefix of a name that stands for a dataset of the Hugging Face hub."""


def load_hub_dataset(name: str) -> Any:
    """Load the split of a dataset with the package ``datasets``.

    Args:
        name: ``hf:NAME``, ``hf:NAME:SPLIT``, ``hf:OWNER/NAME/CONFIG:SPLIT``, or ``hf:PATH`` for the
            folder of a dataset. The default split is ``train``.

    Raises:
        ValueError: If ``datasets`` is not installed, or the dataset cannot be loaded.
    """
    try:
        from datasets import load_dataset  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError(
            f"files: {name!r} needs the package 'datasets': pip install 'kdlight[data]'"
        ) from error
    path, _, split = name.removeprefix(HUB).partition(":")
    config = None
    if path.count("/") == 2 and not Path(path).exists():
        path, config = path.rsplit("/", 1)
    try:
        return load_dataset(path, config, split=split or "train")
    except Exception as error:  # the hub raises errors of many libraries
        raise ValueError(f"files: cannot load {name!r}: {error}") from error
