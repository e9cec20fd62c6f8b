"""Export of a student in memory to a directory that is read without kdlight."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kdlight.export.model_card import write_model_card
from kdlight.models.recipes.adapted_causal_lm import AdaptedCausalLM
from kdlight.models.saving import save_network
from kdlight.models.shortcut_layers import ShortcutCausalLM


def export_student(
    student: Any,
    directory: str | Path,
    *,
    tokenizer: Any = None,
    state_dict: Mapping[str, Tensor] | None = None,
    run: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    adapter_only: bool = False,
    adapter_scale: float | None = None,
) -> None:
    """Save a student with ``save_pretrained``, with its tokenizer and a model card.

    Args:
        student: such as a `kdlight.CausalLM`, or a model of transformers.
        directory: the directory to save in.
        tokenizer: tokenizer of the student; None saves none.
        state_dict: full weights, if those of the student are sharded.
        run: description of the run, for the model card.
        overwrite: whether to replace a model in the directory.
        adapter_only: save the adapters of a `kdlight.LoRACausalLM` only, instead of a merged model.
        adapter_scale: multiplies what the adapters of a `kdlight.LoRACausalLM` add to the merged
            weights: 0 for the base model, 1 or None for the student, any finite number between and
            beyond. Ma, Wan et al., "CoT-Valve: Length-Compressible Chain-of-Thought
            Tuning", 2025.

    Raises:
        ValueError: If the student has no ``save_pretrained``, or no adapters to save or to scale.
        FileExistsError: If the directory holds a model, and overwrite is False.

    Example:
        >>> from torch import nn
        >>> export_student(nn.Linear(4, 3), "exported")
        Traceback (most recent call last):
        ValueError: an export calls student.save_pretrained(directory), which Linear ...
    """
    check_exportable(student, adapter_only=adapter_only, adapter_scale=adapter_scale)
    check_directory(directory, overwrite=overwrite, adapter_only=adapter_only)
    save_network(
        student,
        directory,
        tokenizer=tokenizer,
        state_dict=state_dict,
        adapter_only=adapter_only,
        adapter_scale=adapter_scale,
    )
    scaled = {} if adapter_scale in (None, 1) else {"adapter_scale": adapter_scale}
    write_model_card(directory, {**(run or {}), **scaled})


def check_exportable(
    student: Any, *, adapter_only: bool = False, adapter_scale: float | None = None
) -> None:
    """Raise a ValueError for a student that cannot be saved in this way.

    It has no ``save_pretrained``, or no adapters to save alone or to scale.

    Example:
        >>> from torch import nn
        >>> check_exportable(nn.Linear(4, 3))
        Traceback (most recent call last):
        ValueError: an export calls student.save_pretrained(directory), which Linear ...
    """
    if isinstance(student, ShortcutCausalLM):
        raise ValueError(
            "a student of kdlight.models.DepthShortcut cannot be exported, as no architecture of"
            " transformers has shortcuts; its weights are in the checkpoints of the run"
        )
    if not hasattr(student, "save_pretrained"):
        raise ValueError(
            f"an export calls student.save_pretrained(directory), which {type(student).__name__}"
            " does not have; use a kdlight.CausalLM, or take the student's weights from the"
            " checkpoint"
        )
    if adapter_only and not isinstance(student, AdaptedCausalLM):
        raise ValueError(
            f"adapter_only=True, but {type(student).__name__} has no adapters; use a"
            " kdlight.LoRACausalLM, or adapter_only=False"
        )
    if isinstance(student, AdaptedCausalLM):
        student.check_scale(adapter_scale, adapter_only=adapter_only)
    elif adapter_scale is not None:
        raise ValueError(
            f"adapter_scale={adapter_scale}, but {type(student).__name__} has no adapters; use a"
            " kdlight.LoRACausalLM, or leave adapter_scale out"
        )


def check_directory(directory: str | Path, *, overwrite: bool, adapter_only: bool = False) -> None:
    """Raise a FileExistsError for a directory that holds a model, unless ``overwrite`` is True.

    Adapters never replace a model, nor a model adapters: files of both in one directory would be
    loaded as one model.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "config.json").write_text("{}")
        ...     check_directory(folder, overwrite=False)
        Traceback (most recent call last):
        FileExistsError: directory=... already holds a model; name another directory, or set ...
    """
    files = {"a model": "config.json", "adapters": "adapter_config.json"}
    existing = [kind for kind, file in files.items() if (Path(directory) / file).exists()]
    new, other = ("adapters", "a model") if adapter_only else ("a model", "adapters")
    if other in existing:
        raise FileExistsError(
            f"directory={str(directory)!r} already holds {other} and cannot hold {new} as well;"
            " name another directory"
        )
    if existing and not overwrite:
        raise FileExistsError(
            f"directory={str(directory)!r} already holds a model; name another directory, or"
            " set overwrite=True to replace it"
        )
