"""What a checkpoint says about the run that wrote it, and whether it is one of this run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_warn

from kdlight.checkpoints import FORMAT, check_format, check_weights, shapes

if TYPE_CHECKING:
    from kdlight.modules.distillation import DistillationModule


def stamp(module: DistillationModule) -> dict[str, Any]:
    """Plain data for ``checkpoint["kdlight"]``: the format, and a description for people."""
    version = sys.modules["kdlight"].__version__
    return {"format": FORMAT, "version": version, "run": describe_run(module)}


def describe_run(module: DistillationModule) -> dict[str, Any]:
    """What the run is made of, as far as it is known, and its latest metrics.

    Returns:
        ``student``, ``teacher``, ``objective`` and ``data`` in words, ``tokenizer`` as the data
        name it, ``steps`` and ``metrics``.
    """
    given = _given(module)
    run: dict[str, Any] = {
        name: spell(given[name]) if given.get(name) else _live(part)
        for name, part in (
            ("student", module.student),
            ("teacher", getattr(module.teacher, "model", module.teacher)),
            ("objective", module.objective),
        )
    }
    trainer = module._trainer
    if trainer is None:
        return run
    data = trainer.datamodule  # type: ignore[attr-defined]
    if data is not None:
        run["data"] = _spell_attributes(data)
        source = getattr(data, "tokenizer_source", None)
        run["tokenizer"] = source if isinstance(source, str) else None
    run["steps"] = trainer.global_step
    run["metrics"] = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return run


def spell(config: Any) -> str:
    """An object of a config in one line.

    Example:
        >>> spell({"class_path": "kdlight.CausalLM", "init_args": {"source": "a/b", "dtype": None}})
        "CausalLM(source='a/b')"
    """
    if isinstance(config, Mapping) and "class_path" in config:
        given = config.get("init_args", {}).items()
        inner = ", ".join(f"{name}={spell(value)}" for name, value in given if value is not None)
        return f"{config['class_path'].rpartition('.')[2]}({inner})"
    if isinstance(config, Mapping):
        return "{" + ", ".join(f"{name}: {spell(value)}" for name, value in config.items()) + "}"
    return repr(config)


def check_checkpoint(checkpoint: Mapping[str, Any], module: DistillationModule) -> None:
    """Raise a ValueError for a checkpoint that this module cannot take; warn of another objective.

    Raises:
        ValueError: a later format; weights that do not fit, by name.
    """
    check_format(checkpoint)
    if module.strict_loading and "state_dict" in checkpoint:  # FSDP2 has loaded it by now
        check_weights(shapes(checkpoint["state_dict"]), shapes(module.state_dict()))
    name = checkpoint.get("kdlight", {}).get("run", {}).get("objective")
    mine = describe_run(module)["objective"]
    if name is not None and name.partition("(")[0] != mine.partition("(")[0]:
        rank_zero_warn(f"the checkpoint was trained with {name}, and this run has {mine}")


def _given(module: DistillationModule) -> dict[str, Any]:
    """The config of the parts; where networks learn together, that of student and teacher."""
    learners = module.hparams.get("learners") or {}
    found = dict(module.hparams) | {name: each["network"] for name, each in learners.items()}
    if learners:
        found["objective"] = learners["student"]["objective"]
    return found


def _live(part: Any) -> str | None:
    if part is None:
        return None
    source = getattr(getattr(getattr(part, "model", None), "config", None), "name_or_path", "")
    return f"{type(part).__name__}({source})" if source else type(part).__name__


def _spell_attributes(data: Any) -> str:
    plain = (str, int, float, bool, list)
    known = {name: getattr(data, name, None) for name in signature(type(data)).parameters}
    given = {name: value for name, value in known.items() if isinstance(value, plain)}
    return spell({"class_path": type(data).__name__, "init_args": given})
