"""Export of a network from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pydoc import locate
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from kdlight.checkpoints import (
    check_format,
    check_trusted,
    check_weights,
    check_writable,
    read_checkpoint,
    shapes,
)
from kdlight.export.merge_changes import merge_changes
from kdlight.export.student import check_directory, check_exportable, export_student
from kdlight.models import StudentRecipe, load_tokenizer
from kdlight.modules import StandaloneModule
from kdlight.modules.base import DistillationBase
from kdlight.modules.checkpoint_metadata import describe_run

ONLY_IN_A_FIT = ("optimizer", "lr_scheduler", "lr_scheduler_config")
"""Arguments of the modules of kdlight that a network is built without."""


def export_checkpoint(
    ckpt_path: str,
    output: str,
    tokenizer: str | None = None,
    overwrite: bool = False,
    adapter_only: bool = False,
    network: str = "student",
    trust: bool = False,
    adapter_scale: float | None = None,
) -> None:
    """Export a network from a checkpoint of a run of the command line.

    A checkpoint is a file that may come from anywhere. Its networks are built only from classes of
    kdlight, ``torch.nn`` and ``torch.optim``, and without code from a model's folder or a hub,
    unless it is trusted. Its checksums are verified.

    Args:
        ckpt_path: a checkpoint: a file, or a folder of shards.
        output: the directory to save the network in.
        tokenizer: location of the tokenizer, spelled like the source of a model; by default the
            tokenizer of the data, else of the models of the run.
        overwrite: whether to replace a model in the directory.
        adapter_only: save the adapters of a LoRA student only, instead of a merged model.
        network: name of the network, if several were trained together.
        trust: import and run other code as well that the checkpoint names.
        adapter_scale: multiplies what the adapters of a LoRA student add to the merged weights,
            see `export_student`.

    Raises:
        ValueError: If the checkpoint is incomplete or damaged, has a later format, does not contain
            how to build its networks, names code that is not trusted, or has no network of that
            name; or the tokenizer cannot be loaded.
        FileExistsError: If the directory holds a model, and overwrite is False.
        OSError: If the directory cannot be written to; raised before anything is read.

    Example:
        >>> export_checkpoint("nowhere.ckpt", "exported")
        Traceback (most recent call last):
        ValueError: checkpoint 'nowhere.ckpt' does not exist
    """
    check_directory(output, overwrite=overwrite, adapter_only=adapter_only)
    check_writable(output)
    checkpoint = read_checkpoint(ckpt_path)
    check_format(checkpoint)
    metadata = checkpoint.get("kdlight", {})
    module = build_module(
        checkpoint.get("hyper_parameters", {}),
        trust=trust,
        rebuilding=metadata.get("rebuilding", {}),
    )
    chosen = find_network(module, network)
    check_exportable(chosen, adapter_only=adapter_only, adapter_scale=adapter_scale)
    check_weights(shapes(checkpoint["state_dict"]), shapes(module.state_dict()))
    module.load_state_dict(checkpoint["state_dict"])
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
        adapter_scale=adapter_scale,
    )
    note = "" if loaded_tokenizer is not None else ", without a tokenizer; set tokenizer to add one"
    print(f"{network.capitalize()} saved: {output}{note}")


def build_module(
    hyper_parameters: Mapping[str, Any],
    *,
    trust: bool = False,
    rebuilding: Mapping[str, Any] | None = None,
) -> DistillationBase:
    """Build the module that a checkpoint's hyper-parameters describe, with new weights.

    The teacher is loaded only if the student is built from it.

    Args:
        hyper_parameters: those of the checkpoint.
        trust: import and run other code as well that they name.
        rebuilding: what to change in them, so that students are built without data that recipes
            measured their teacher on.

    Raises:
        ValueError: If there are no class paths, because the module was created in Python; or code
            is named that is not trusted.

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
    config = merge_changes(hyper_parameters, rebuilding or {})
    config = {name: value for name, value in config.items() if name != "_instantiator"}
    if str(config["_class_path"]).startswith("kdlight."):
        config = {name: value for name, value in config.items() if name not in ONLY_IN_A_FIT}
    named = check_trusted(config, trust=trust, flag="--trust (in Python: trust=True)")
    if named:
        rank_zero_info(f"the checkpoint is trusted, which runs {'; '.join(named)}")
    if "teacher" in config and str(config["_class_path"]).startswith("kdlight."):
        recipe = locate(config["student"].get("class_path", ""))
        if not (isinstance(recipe, type) and issubclass(recipe, StudentRecipe)):
            config["teacher"] = None
    return instantiate_module(DistillationBase, config)


def find_network(module: DistillationBase, name: str) -> nn.Module:
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
    return module.student_network() if name == "student" else getattr(module, name)


def describe_module(module: DistillationBase) -> dict[str, Any]:
    """Return the description of a run, for a model card.

    Example:
        >>> from kdlight import DistillationModule, SingleInput
        >>> from kdlight.objectives import CrossEntropy
        >>> student = SingleInput(nn.Linear(4, 3))
        >>> describe_module(DistillationModule(student, CrossEntropy()))["objective"]
        'CrossEntropy'
    """
    if isinstance(module, StandaloneModule):
        return module.describe_run()
    parts = {
        "student": module.student_network(),
        "teacher": module.teacher,
        "objective": module.objective,
    }
    return describe_run(parts, {}, module._trainer)


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
