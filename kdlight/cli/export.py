"""``kdlight export --ckpt_path X --output DIR``: save the student of a checkpoint."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from kdlight.cli.errors import TRACEBACK, TRACEBACK_HELP, one_line_errors


def _export(
    ckpt_path: str,
    output: str,
    tokenizer: str | None = None,
    overwrite: bool = False,
    adapter_only: bool = False,
    network: str = "student",
    adapter_scale: float | None = None,
    trust: bool = False,
) -> None:
    """Save the student of a checkpoint with save_pretrained, for use without kdlight.

    Args:
        ckpt_path: a checkpoint: a file, or a folder of shards.
        output: the directory to save the network in.
        tokenizer: location of the tokenizer, spelled like the source of a model; by default the
            tokenizer of the data, else of the models of the run.
        overwrite: whether to replace a model in the directory.
        adapter_only: save the adapters of a LoRA student only, instead of a merged model.
        network: name of the network, if several were trained together.
        adapter_scale: multiplies what the adapters of a LoRA student add to the merged weights; 0
            is the base model, 1 the student, any number between and beyond is valid.
        trust: whether to run code that the checkpoint names.
    """
    options = locals()
    from kdlight.export import export_checkpoint  # takes seconds, which the help does not need

    export_checkpoint(**options)


TRUST_HELP = (
    "Import and run code that the checkpoint names, beyond kdlight, torch.nn and torch.optim."
    " Without it the names are listed, and nothing is run."
)


def export(args: list[str]) -> None:
    """Export the student of a checkpoint; an error is one line, and the exit code 2."""
    parser = ArgumentParser(
        prog="kdlight export", description="Save the student of a checkpoint with save_pretrained."
    )
    parser.add_function_arguments(_export, skip={"trust"})
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    parser.add_argument(TRACEBACK, action="store_true", help=TRACEBACK_HELP)
    options = vars(parser.instantiate_classes(parser.parse_args(args)))
    del options["traceback"]
    with one_line_errors():
        _export(**options)
