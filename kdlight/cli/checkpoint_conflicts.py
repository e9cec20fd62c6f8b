"""Resolve conflicts between the model of a checkpoint and that of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info

from kdlight.checkpoints import (
    check_format,
    check_trusted,
    check_weights,
    read_metadata,
    read_remote,
    shapes,
    weight_shapes,
)
from kdlight.cli.checkpoint_paths import is_remote, local_path

OnConflict = Literal["error", "checkpoint", "command_line"]

HELP = (
    "Which model to use if the one of ckpt_path differs from that of the config and the command"
    " line: 'checkpoint', 'command_line', or 'error' to list the differences and stop."
)
TRUST_HELP = (
    "Import and run code that a checkpoint names, beyond kdlight, torch.nn, torch.optim and what"
    " the config names. Without it the names are listed, and nothing is run."
)


def resolve_conflicts(parser: ArgumentParser, config: Namespace, ckpt_path: Any) -> Namespace:
    """Return the config of a command with the model that ``on_conflict`` selects.

    Args:
        parser: the parser of the command line.
        config: what it parsed.
        ckpt_path: the checkpoint, which is a path or a URL.

    Raises:
        ValueError: the models differ and ``on_conflict`` is ``"error"``; the checkpoint does not
            exist, is incomplete, or has a later format; its model is selected, and names code that
            is not trusted.
    """
    options = config[config.subcommand]
    checkpoint = _read(ckpt_path)
    if checkpoint is None:
        return config
    check_format(checkpoint)
    saved = model_config(checkpoint.get("hyper_parameters", {}))
    if saved is None:
        return config
    dump = yaml.safe_load(parser.dump(config, skip_link_targets=False, skip_none=False))
    current = dump[config.subcommand]["model"]
    conflicts = list(differences(saved, current))
    if not conflicts:
        return config
    message = describe_conflicts(conflicts, on_conflict=options.on_conflict)
    if options.on_conflict == "error":
        raise ValueError(message)
    rank_zero_info(message)
    if options.on_conflict == "command_line":
        return config
    named = check_trusted(saved, trust=bool(options.get("trust")), known=current)
    if named:
        rank_zero_info(f"the checkpoint is trusted, which runs {'; '.join(named)}")
    model = {"class_path": saved["class_path"], "dict_kwargs": saved["init_args"]}
    return parser.parse_object({config.subcommand: {"model": model}}, config)


def check_checkpoint_weights(module: LightningModule, ckpt_path: Any) -> None:
    """Raise a ValueError that names the weights of a checkpoint that do not fit ``module``."""
    path = local_path(ckpt_path)
    if path is not None and module.strict_loading:
        check_weights(weight_shapes(path), shapes(module.state_dict()))


def _read(ckpt_path: Any) -> dict[str, Any] | None:
    if ckpt_path and is_remote(ckpt_path):
        return read_remote(ckpt_path)
    path = local_path(ckpt_path)
    return None if path is None else read_metadata(path)


def differences(saved: Any, current: Any, key: str = "model") -> Iterator[tuple[str, Any, Any]]:
    """Yield the keys with different values in two configs, spelled as on the command line.

    Example:
        >>> a = {"class_path": "ForwardKL", "init_args": {"temperature": 2.0}}
        >>> b = {"class_path": "ForwardKL", "init_args": {"temperature": 4.0}}
        >>> list(differences(a, b))
        [('model.temperature', 2.0, 4.0)]
        >>> list(differences({**a, "class_path": "TAID"}, b))
        [('model', 'TAID', 'ForwardKL')]
    """
    if not (isinstance(saved, Mapping) and isinstance(current, Mapping)):
        if saved != current:
            yield key, _class_or_value(saved), _class_or_value(current)
        return
    if saved.get("class_path") != current.get("class_path"):  # options of other classes differ
        yield key, _class_or_value(saved), _class_or_value(current)
        return
    if "class_path" in saved:
        saved, current = _options(saved), _options(current)
    for name in {**saved, **current}:
        yield from differences(saved.get(name), current.get(name), f"{key}.{name}")


def model_config(hyper_parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the model of a checkpoint as a config; None if it was created in Python.

    Example:
        >>> model_config({"_class_path": "kdlight.DistillationModule", "temperature": 2.0})
        {'class_path': 'kdlight.DistillationModule', 'init_args': {'temperature': 2.0}}
    """
    if "_class_path" not in hyper_parameters:
        return None
    internal = ("_class_path", "_instantiator")
    options = {name: value for name, value in hyper_parameters.items() if name not in internal}
    return {"class_path": hyper_parameters["_class_path"], "init_args": options}


def describe_conflicts(conflicts: list[tuple[str, Any, Any]], *, on_conflict: OnConflict) -> str:
    """Return a message that lists conflicts and how they are resolved."""
    resolution = {
        "error": "choose with --on_conflict checkpoint or --on_conflict command_line",
        "checkpoint": "the checkpoint is used",
        "command_line": "the command line is used",
    }
    lines = [
        f"the checkpoint and the command line describe different models; {resolution[on_conflict]}"
    ]
    lines += [f"  {key}: {saved} in the checkpoint, {now} given" for key, saved, now in conflicts]
    if on_conflict != "checkpoint" and any("optimizer" in key for key, _, _ in conflicts):
        lines.append("  (the optimizer state, which includes the lr, is loaded in any case)")
    return "\n".join(lines)


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**(config.get("init_args") or {}), **(config.get("dict_kwargs") or {})}


def _class_or_value(value: Any) -> Any:
    return value.get("class_path", value) if isinstance(value, Mapping) else value
