"""What ``kdlight traces generate`` and ``kdlight traces verify`` do, and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from kdlight.cli.errors import one_line_errors
from kdlight.data.files import file_names, matching_files
from kdlight.data.hub import HUB
from kdlight.data.traces import read_traces
from kdlight.data.traces.chat import uses_chat
from kdlight.data.traces.generate import generate_traces
from kdlight.data.traces.prompts import read_prompts
from kdlight.data.traces.trace import to_lines
from kdlight.data.traces.verifiers import find_verifier
from kdlight.data.traces.verify import verify_traces
from kdlight.data.written_files import write_files
from kdlight.models import Sampling, load_model, load_tokenizer


def generate(
    source: str,
    prompts: str,
    output: str,
    samples: int = 4,
    sampling: Sampling = Sampling(temperature=0.7, max_new_tokens=512),  # noqa: B008
    batch_size: int = 8,
    chat: bool | None = None,
    size: int = 100,
    prompts_seed: int = 0,
    options: dict[str, Any] | None = None,
    dtype: str | None = None,
    device: str | None = None,
) -> None:
    """Sample a teacher's answers to prompts; an interrupted run continues when started again.

    Args:
        source: the teacher, like the source of a CausalLM.
        prompts: JSON lines, hf:NAME, or reasoning_gym:TASK.
        output: file of JSON lines to write.
        samples: number of answers to each prompt.
        sampling: how the teacher generates.
        batch_size: answers generated at once.
        chat: use the tokenizer's chat template for prompts; by default if it has one.
        size: number of prompts from reasoning-gym.
        prompts_seed: seed of the prompts from reasoning-gym.
        options: options of the reasoning-gym task.
        dtype: such as bfloat16; float32 by default.
        device: such as cuda:0; by default an accelerator if there is one.
    """
    where = find_device(device)
    tasks = read_prompts(prompts, size=size, seed=prompts_seed, options=options)
    tokenizer: Any = load_tokenizer(source)
    model: Any = load_model(source, dtype=dtype)
    path = generate_traces(
        model.to(where),
        tokenizer,
        tasks,
        output,
        sampling=sampling,
        samples=samples,
        chat=uses_chat(tokenizer, chat),
        batch_size=batch_size,
        teacher=source,
    )
    print(f"{len(tasks)} prompts, {len(tasks) * samples} traces: {path}")


def verify(
    files: list[str],
    output: str,
    verifier: str = "exact",
    threshold: float = 0.9,
    keep_unfinished: bool = False,
) -> None:
    """Score traces, and write positives.jsonl and negatives.jsonl.

    Args:
        files: traces.
        output: folder to write to.
        verifier: exact, number, reasoning_gym, or your own as module:function or file.py:function.
        threshold: the minimum score of a positive trace.
        keep_unfinished: count truncated answers as negative, instead of leaving them out.
    """
    outputs = [Path(output) / f"{name}.jsonl" for name in ("positives", "negatives")]
    check_outputs(files, outputs)
    positives, negatives, unfinished = verify_traces(
        read_traces(files),
        find_verifier(verifier),
        threshold=threshold,
        keep_unfinished=keep_unfinished,
    )
    write_files(dict(zip(outputs, map(to_lines, (positives, negatives)), strict=True)))
    both = {trace.prompt_id for trace in positives} & {trace.prompt_id for trace in negatives}
    print(
        f"{len(positives)} positive, {len(negatives)} negative, {len(unfinished)} unfinished and"
        f" left out; {len(both)} prompts have both: {output}"
    )


def find_device(name: str | None) -> str:
    """Return a device that can be used; by default an accelerator if there is one.

    Raises:
        ValueError: If there is no such device.

    Example:
        >>> find_device("cpu")
        'cpu'
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, device=name).item()
    # what torch raises for a name that it does not know, a backend that it was built without, and
    # a device that holds no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"device must be such as 'cpu' or 'cuda:0', got {name!r}: {reason}"
        ) from error
    return name


def check_outputs(files: list[str], outputs: list[Path]) -> None:
    """Raise an error where a file to write is one to read, whose other traces would be lost.

    Raises:
        ValueError: If an output is among the files.
    """
    read = {
        path.resolve()
        for name in file_names("files", files)
        if not name.startswith(HUB)
        for path in matching_files(name)
    }
    for path in outputs:
        if path.resolve() in read:
            raise ValueError(
                f"output: {path} would be written, but is also read as one of the files; use"
                " another folder"
            )


COMMANDS = {"generate": generate, "verify": verify}


def run_command(args: list[str]) -> None:
    """Generate or verify traces; an error is one line, and the exit code 2."""
    parser = ArgumentParser(prog="kdlight traces", description="Generate or verify traces.")
    commands = parser.add_subcommands()
    for name, function in COMMANDS.items():
        command = ArgumentParser(description=(function.__doc__ or "").split("\n")[0])
        command.add_function_arguments(function)
        commands.add_subcommand(name, command)
    options = parser.parse_args(args)
    with one_line_errors():
        arguments = parser.instantiate_classes(options)[options.subcommand]
        COMMANDS[options.subcommand](**vars(arguments))
