"""Describe a run in its checkpoints, and check that a checkpoint belongs to a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from inspect import signature
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from kdlight.checkpoints import FORMAT, check_format, check_weights, shapes


def checkpoint_metadata(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data for ``checkpoint["kdlight"]``: format, version, and the run."""
    version = sys.modules["kdlight"].__version__
    return {"format": FORMAT, "version": version, "run": dict(run)}


def describe_run(
    parts: Mapping[str, Any], configs: Mapping[str, Any], trainer: Trainer | None
) -> dict[str, Any]:
    """Describe a run and its latest metrics, as far as they are known.

    Args:
        parts: ``student``, ``teacher`` and ``objective`` as objects, or None.
        configs: the configs of these parts, where the run was made from a config.
        trainer: the trainer of the run, or None.

    Returns:
        The parts and ``data`` in words, ``tokenizer`` by its source, ``steps`` and ``metrics``.
    """
    run: dict[str, Any] = {
        name: describe_config(configs[name]) if configs.get(name) else _describe_object(part)
        for name, part in parts.items()
    }
    if trainer is None:
        return run
    data = trainer.datamodule  # type: ignore[attr-defined]
    if data is not None:
        run["data"] = _describe_attributes(data)
        source = getattr(data, "tokenizer_source", None)
        run["tokenizer"] = source if isinstance(source, str) else None
    run["steps"] = trainer.global_step
    run["metrics"] = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return run


def describe_config(config: Any) -> str:
    """Describe an object of a config in one line.

    Example:
        >>> init_args = {"source": "a/b", "dtype": None}
        >>> describe_config({"class_path": "kdlight.CausalLM", "init_args": init_args})
        "CausalLM(source='a/b')"
    """
    if isinstance(config, Mapping) and "class_path" in config:
        arguments = ", ".join(
            f"{name}={describe_config(value)}"
            for name, value in config.get("init_args", {}).items()
            if value is not None
        )
        return f"{config['class_path'].rpartition('.')[2]}({arguments})"
    if isinstance(config, Mapping):
        entries = (f"{name}: {describe_config(value)}" for name, value in config.items())
        return "{" + ", ".join(entries) + "}"
    return repr(config)


def check_checkpoint(
    checkpoint: Mapping[str, Any], objective: str, weights: Mapping[str, Tensor] | None
) -> None:
    """Raise a ValueError for a checkpoint that does not fit; warn of another objective.

    Args:
        checkpoint: the checkpoint.
        objective: description of this run's objective.
        weights: the state dict that the checkpoint's is to be loaded into; None for no check.

    Raises:
        ValueError: a later format; weights that do not fit, by name.
    """
    check_format(checkpoint)
    if weights is not None and "state_dict" in checkpoint:  # FSDP2 has loaded it already
        check_weights(shapes(checkpoint["state_dict"]), shapes(weights))
    saved = checkpoint.get("kdlight", {}).get("run", {}).get("objective")
    if saved is not None and saved.partition("(")[0] != objective.partition("(")[0]:
        rank_zero_warn(f"the checkpoint was trained with {saved}, and this run has {objective}")


def _describe_object(part: Any) -> str | None:
    if part is None:
        return None
    source = getattr(getattr(getattr(part, "model", None), "config", None), "name_or_path", "")
    return f"{type(part).__name__}({source})" if source else type(part).__name__


def _describe_attributes(data: Any) -> str:
    plain = (str, int, float, bool, list)
    values = {name: getattr(data, name, None) for name in signature(type(data)).parameters}
    known = {name: value for name, value in values.items() if isinstance(value, plain)}
    return describe_config({"class_path": type(data).__name__, "init_args": known})
