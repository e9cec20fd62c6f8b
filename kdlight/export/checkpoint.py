"""A network of a checkpoint, built again and exported."""

from __future__ import annotations

from collections.abc import Mapping
from pydoc import locate
from typing import Any

from lightning.pytorch import LightningModule
from torch import nn

from kdlight.checkpoints import check_format, check_weights, read_checkpoint, shapes
from kdlight.export.student import check_directory, check_exportable, export_student
from kdlight.models import StudentRecipe, load_tokenizer
from kdlight.modules import StandaloneModule


def export_checkpoint(
    ckpt_path: str,
    output: str,
    tokenizer: str | None = None,
    overwrite: bool = False,
    adapter_only: bool = False,
    network: str = "student",
) -> None:
    """Export a network of a checkpoint that a run of the command line has written.

    Args:
        ckpt_path: a checkpoint of any kind: a file, or a folder of shards.
        output: the directory to save the student in.
        tokenizer: where the tokenizer is, spelled like the source of a model; by default that of
            the run's data, else that of its models.
        overwrite: save even where the directory holds a model already.
        adapter_only: save the adapters of a LoRA student alone, instead of merged.
        network: its name, where several learned together; each is in the checkpoint.

    Raises:
        ValueError: the checkpoint is not whole, of a later format, does not say how to build its
            networks, or has none of that name; a tokenizer that cannot be loaded.
        FileExistsError: the directory holds a model, and overwrite is False.

    Example:
        >>> export_checkpoint("nowhere.ckpt", "exported")
        Traceback (most recent call last):
        ValueError: checkpoint 'nowhere.ckpt' does not exist
    """
    check_directory(output, overwrite=overwrite, adapter_only=adapter_only)
    checkpoint = read_checkpoint(ckpt_path)
    check_format(checkpoint)
    module = build_module(checkpoint.get("hyper_parameters", {}))
    chosen = find_network(module, network)
    check_exportable(chosen, adapter_only=adapter_only)
    check_weights(shapes(checkpoint["state_dict"]), shapes(module.state_dict()))
    module.load_state_dict(checkpoint["state_dict"])
    made = checkpoint.get("kdlight", {})
    run = {
        "steps": checkpoint["global_step"],
        "version": made.get("version"),
        **made.get("run", {}),
    }
    source = tokenizer or run.get("tokenizer") or _source(checkpoint["hyper_parameters"])
    found = None if source is None else load_tokenizer(source)
    export_student(
        chosen,
        output,
        tokenizer=found,
        run=describe_network(run, network),
        overwrite=overwrite,
        adapter_only=adapter_only,
    )
    without = "" if found is not None else ", without a tokenizer: none is known, name one"
    print(f"{network.capitalize()} saved: {output}{without}")


def build_module(hyper_parameters: Mapping[str, Any]) -> StandaloneModule:
    """The module that a checkpoint's hyper-parameters describe, with weights of its own.

    The teacher is loaded only where the student is cut from it.

    Raises:
        ValueError: they hold no classes, because the module was made in Python.

    Example:
        >>> build_module({})
        Traceback (most recent call last):
        ValueError: the checkpoint does not say how to build its student, because its module was ...
    """
    from lightning.pytorch.cli import instantiate_module

    if "_class_path" not in hyper_parameters:
        raise ValueError(
            "the checkpoint does not say how to build its student, because its module was made in"
            " Python and not from a config; make the module again, load the weights, and call"
            " kdlight.export.export_student(module.student, directory)"
        )
    config = {name: value for name, value in hyper_parameters.items() if name != "_instantiator"}
    if "teacher" in config:
        recipe = locate(config["student"].get("class_path", ""))
        from_teacher = isinstance(recipe, type) and issubclass(recipe, StudentRecipe)
        if config["_class_path"].startswith("kdlight.") and not from_teacher:
            config["teacher"] = None
    return instantiate_module(StandaloneModule, config)


def find_network(module: LightningModule, name: str) -> nn.Module:
    """The network that a module trains under a name, such as ``"student"``.

    Raises:
        ValueError: it trains none of that name.

    Example:
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import CrossEntropy
        >>> module = DistillationModule(student=SingleInput(nn.Linear(4, 3)), objective=CrossEntropy())
        >>> find_network(module, "teacher")
        Traceback (most recent call last):
        ValueError: network='teacher', but what is trained is ['student'] (its teacher ...
    """
    networks = ["student", *getattr(module, "peers", [])]
    if name not in networks:
        frozen = " (its teacher stays as it was)" if networks == ["student"] else ""
        raise ValueError(f"network={name!r}, but what is trained is {networks}{frozen}")
    return getattr(module, name)


def describe_network(run: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What is known of a run, seen from another of its networks: that is what has learned.

    Example:
        >>> describe_network({"student": "small", "teacher": "large", "data": "text"}, "teacher")
        {'student': 'large', 'data': 'text'}
    """
    if name == "student":
        return dict(run)
    others = ("teacher", "objective", "metrics")
    return {k: v for k, v in run.items() if k not in others} | {"student": run.get(name)}


def _source(hyper_parameters: Mapping[str, Any]) -> str | None:
    learners = hyper_parameters.get("learners") or {}
    networks = [hyper_parameters.get(name) for name in ("student", "teacher")]
    networks += [learner["network"] for learner in learners.values()]
    for network in networks:
        source = ((network or {}).get("init_args") or {}).get("source")
        if source:
            return source
    return None
