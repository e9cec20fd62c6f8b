"""A checkpoint and a command line that say different things about the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeGuard

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info

from kdlight.checkpoints import (
    check_format,
    check_weights,
    check_whole,
    is_ours,
    read_facts,
    shapes,
    weight_shapes,
)

OnConflict = Literal["error", "checkpoint", "command_line"]

HELP = (
    "What decides where the model of ckpt_path and that of the config and the command line differ:"
    " 'checkpoint', 'command_line', or 'error' to name the differences and stop."
)


def settle(parser: ArgumentParser, config: Namespace) -> Namespace:
    """The config of a command, after the model of its ``ckpt_path`` had its say.

    Raises:
        ValueError: the two differ and ``on_conflict`` is ``"error"``; the checkpoint is not there,
            not whole, or of a later format.
    """
    options = config[config.subcommand]
    if not _is_path(options.ckpt_path):
        return config
    facts = read_facts(options.ckpt_path)
    check_format(facts)
    saved = as_config(facts.get("hyper_parameters", {}))
    if saved is None:
        return config
    dump = yaml.safe_load(parser.dump(config, skip_link_targets=False, skip_none=False))
    found = list(differences(saved, dump[config.subcommand]["model"]))
    if not found:
        return config
    message = report(found, on_conflict=options.on_conflict)
    if options.on_conflict == "error":
        raise ValueError(message)
    rank_zero_info(message)
    if options.on_conflict == "command_line":
        return config
    model = {"class_path": saved["class_path"], "dict_kwargs": saved["init_args"]}
    return parser.parse_object({config.subcommand: {"model": model}}, config)


def check_takes(module: LightningModule, ckpt_path: str | None) -> None:
    """Raise a ValueError that names the weights of a checkpoint that a module cannot take."""
    if _is_path(ckpt_path) and module.strict_loading:
        check_weights(weight_shapes(ckpt_path), shapes(module.state_dict()))


def differences(saved: Any, given: Any, key: str = "model") -> Iterator[tuple[str, Any, Any]]:
    """Keys that two configs of an object give different values, spelled as on the command line.

    Example:
        >>> a = {"class_path": "ForwardKL", "init_args": {"temperature": 2.0}}
        >>> b = {"class_path": "ForwardKL", "init_args": {"temperature": 4.0}}
        >>> list(differences(a, b))
        [('model.temperature', 2.0, 4.0)]
        >>> list(differences({**a, "class_path": "TAID"}, b))
        [('model', 'TAID', 'ForwardKL')]
    """
    if not (isinstance(saved, Mapping) and isinstance(given, Mapping)):
        if saved != given:
            yield key, _name(saved), _name(given)
        return
    if saved.get("class_path") != given.get("class_path"):  # their options are then not the same
        yield key, _name(saved), _name(given)
        return
    if "class_path" in saved:
        saved, given = _options(saved), _options(given)
    for name in {**saved, **given}:
        yield from differences(saved.get(name), given.get(name), f"{key}.{name}")


def as_config(hyper_parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """The model of a checkpoint as a config; None where it was made in Python."""
    if "_class_path" not in hyper_parameters:
        return None
    left_out = ("_class_path", "_instantiator")
    options = {name: value for name, value in hyper_parameters.items() if name not in left_out}
    return {"class_path": hyper_parameters["_class_path"], "init_args": options}


def report(found: list[tuple[str, Any, Any]], *, on_conflict: OnConflict) -> str:
    """What to say of differences, and of who decides."""
    who = {
        "error": "choose with --on_conflict checkpoint or --on_conflict command_line",
        "checkpoint": "the checkpoint decides",
        "command_line": "the command line decides",
    }
    lines = [f"the checkpoint and the command line describe different models; {who[on_conflict]}"]
    lines += [f"  {key}: {saved} in the checkpoint, {given} given" for key, saved, given in found]
    if on_conflict != "checkpoint" and any("optimizer" in key for key, _, _ in found):
        lines.append("  (the state of the optimizer, its lr included, is the checkpoint's anyhow)")
    return "\n".join(lines)


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**(config.get("init_args") or {}), **(config.get("dict_kwargs") or {})}


def _name(value: Any) -> Any:
    return value.get("class_path", value) if isinstance(value, Mapping) else value


def _is_path(ckpt_path: Any) -> TypeGuard[str]:
    """Whether it leads to a checkpoint of a kind that can be looked into."""
    if not ckpt_path or ckpt_path in ("best", "last", "hpc") or ":" in str(ckpt_path):
        return False
    if Path(ckpt_path).is_dir() and not is_ours(ckpt_path):  # DeepSpeed's
        return False
    check_whole(ckpt_path)
    return True
