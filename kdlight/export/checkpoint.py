"""Export of a network from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdlight.checkpoints import (
    check_format,
    check_weights,
    check_writable,
    read_checkpoint,
    shapes,
)
from kdlight.export.rebuilt_module import build_module
from kdlight.export.student import check_directory, check_exportable, export_student
from kdlight.export.trained_network import describe_network, find_network
from kdlight.models import load_tokenizer


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
