"""Export of a network from a checkpoint."""

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
    """Export a network from a checkpoint of a run of the command line.

    Args:
        ckpt_path: a checkpoint: a file, or a folder of shards.
        output: the directory to save the network in.
        tokenizer: location of the tokenizer, spelled like the source of a model; by default the
            tokenizer of the data, else of the models of the run.
        overwrite: whether to replace a model in the directory.
        adapter_only: save the adapters of a LoRA student only, instead of a merged model.
        network: name of the network, if several were trained together.

    Raises:
        ValueError: If the checkpoint is incomplete, has a later format, does not contain how to
            build its networks, or has no network of that name; or the tokenizer cannot be loaded.
        FileExistsError: If the directory holds a model, and overwrite is False.

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
    metadata = checkpoint.get("kdlight", {})
    run = {
        "steps": checkpoint["global_step"],
        "version": metadata.get("version"),
        **metadata.get("run", {}),
    }
    source = tokenizer or run.get("tokenizer") or _model_source(checkpoint["hyper_parameters"])
    loaded_tokenizer = None if source is None else load_tokenizer(source)
    export_student(
        chosen,
        output,
        tokenizer=loaded_tokenizer,
        run=describe_network(run, network),
        overwrite=overwrite,
        adapter_only=adapter_only,
    )
    note = "" if loaded_tokenizer is not None else ", without a tokenizer; set tokenizer to add one"
    print(f"{network.capitalize()} saved: {output}{note}")


def build_module(hyper_parameters: Mapping[str, Any]) -> StandaloneModule:
    """Build the module that a checkpoint's hyper-parameters describe, with new weights.

    The teacher is loaded only if the student is built from it.

    Raises:
        ValueError: If there are no class paths, because the module was created in Python.

    Example:
        >>> build_module({})
        Traceback (most recent call last):
        ValueError: the checkpoint does not contain how to build its student, because its ...
    """
    from lightning.pytorch.cli import instantiate_module

    if "_class_path" not in hyper_parameters:
        raise ValueError(
            "the checkpoint does not contain how to build its student, because its module was"
            " created in Python and not from a config; create the module again, load the weights,"
            " and call kdlight.export.export_student(module.student, directory)"
        )
    config = {name: value for name, value in hyper_parameters.items() if name != "_instantiator"}
    if "teacher" in config:
        recipe = locate(config["student"].get("class_path", ""))
        from_teacher = isinstance(recipe, type) and issubclass(recipe, StudentRecipe)
        if config["_class_path"].startswith("kdlight.") and not from_teacher:
            config["teacher"] = None
    return instantiate_module(StandaloneModule, config)


def find_network(module: LightningModule, name: str) -> nn.Module:
    """Return a network that a module trains by its name, such as ``"student"``.

    Raises:
        ValueError: If the module trains no network of that name.

    Example:
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import CrossEntropy
        >>> student = SingleInput(nn.Linear(4, 3))
        >>> module = DistillationModule(student=student, objective=CrossEntropy())
        >>> find_network(module, "teacher")
        Traceback (most recent call last):
        ValueError: network must be one of ['student'], got 'teacher' (the teacher is not trained)
    """
    networks = ["student", *getattr(module, "peers", [])]
    if name not in networks:
        note = " (the teacher is not trained)" if networks == ["student"] else ""
        raise ValueError(f"network must be one of {networks}, got {name!r}{note}")
    return getattr(module, name)


def describe_network(run: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the description of a run with another of its networks as the student.

    Example:
        >>> describe_network({"student": "small", "teacher": "large", "data": "text"}, "teacher")
        {'student': 'large', 'data': 'text'}
    """
    if name == "student":
        return dict(run)
    others = ("teacher", "objective", "metrics")
    return {k: v for k, v in run.items() if k not in others} | {"student": run.get(name)}


def _model_source(hyper_parameters: Mapping[str, Any]) -> str | None:
    """Return the source of the student or the teacher, or of another trained network."""
    learners = hyper_parameters.get("learners") or {}
    networks = [hyper_parameters.get(name) for name in ("student", "teacher")]
    networks += [learner["network"] for learner in learners.values()]
    for network in networks:
        source = ((network or {}).get("init_args") or {}).get("source")
        if source:
            return source
    return None
