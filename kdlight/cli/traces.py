"""``kdlight traces generate`` and ``kdlight traces verify``: a teacher's answers, and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from kdlight.cli.errors import one_line_errors
from kdlight.data.traces import read_traces, write_traces
from kdlight.data.traces.chat import uses_chat
from kdlight.data.traces.generate import generate_traces
from kdlight.data.traces.prompts import read_prompts
from kdlight.data.traces.verify import find_verifier, verify_traces
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
    import torch

    tasks = read_prompts(prompts, size=size, seed=prompts_seed, options=options)
    tokenizer: Any = load_tokenizer(source)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
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
    positives, negatives, unfinished = verify_traces(
        read_traces(files),
        find_verifier(verifier),
        threshold=threshold,
        keep_unfinished=keep_unfinished,
    )
    for name, traces in (("positives", positives), ("negatives", negatives)):
        write_traces(Path(output) / f"{name}.jsonl", traces)
    both = {trace.prompt_id for trace in positives} & {trace.prompt_id for trace in negatives}
    print(
        f"{len(positives)} positive, {len(negatives)} negative, {len(unfinished)} unfinished and"
        f" left out; {len(both)} prompts have both: {output}"
    )


COMMANDS = {"generate": generate, "verify": verify}


def traces(args: list[str]) -> None:
    """Generate or verify traces; an error is one line, and the exit code 2."""
    parser = ArgumentParser(prog="kdlight traces", description="Generate or verify traces.")
    commands = parser.add_subcommands()
    for name, function in COMMANDS.items():
        command = ArgumentParser(description=(function.__doc__ or "").split("\n")[0])
        command.add_function_arguments(function)
        commands.add_subcommand(name, command)
    options = parser.parse_args(args)
    arguments = parser.instantiate_classes(options)[options.subcommand]
    with one_line_errors():
        COMMANDS[options.subcommand](**vars(arguments))
