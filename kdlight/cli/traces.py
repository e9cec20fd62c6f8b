"""``kdlight traces generate`` and ``kdlight traces verify``: a teacher's answers, and scores."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

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
    """Sample a teacher's answers to prompts; run again after a kill, it goes on where it was.

    Args:
        source: the teacher, spelled like the source of a CausalLM.
        prompts: JSON lines, hf:NAME, or reasoning_gym:TASK.
        output: file of JSON lines to write.
        samples: number of answers to each prompt.
        sampling: how the teacher generates.
        batch_size: answers drawn at once.
        chat: put prompts into the tokenizer's chat template; by default if it has one.
        size: how many prompts reasoning-gym makes.
        prompts_seed: seed of the prompts that reasoning-gym makes.
        options: options of the task of reasoning-gym.
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
        verifier: exact, number, reasoning_gym, or yours as module:function or file.py:function.
        threshold: the least score of a right trace.
        keep_unfinished: count answers that were cut off as wrong, instead of leaving them out.
    """
    right, wrong, neither = verify_traces(
        read_traces(files),
        find_verifier(verifier),
        threshold=threshold,
        keep_unfinished=keep_unfinished,
    )
    for name, traces in (("positives", right), ("negatives", wrong)):
        write_traces(Path(output) / f"{name}.jsonl", traces)
    both = {t.prompt_id for t in right} & {t.prompt_id for t in wrong}
    print(
        f"{len(right)} right, {len(wrong)} wrong, {len(neither)} unfinished and left out;"
        f" {len(both)} prompts have both: {output}"
    )


COMMANDS = {"generate": generate, "verify": verify}


def traces(args: list[str]) -> None:
    """Make traces; what is wrong is one line, and the exit code 2."""
    parser = ArgumentParser(prog="kdlight traces", description="Make and score a teacher's traces.")
    commands = parser.add_subcommands()
    for name, function in COMMANDS.items():
        command = ArgumentParser(description=(function.__doc__ or "").split("\n")[0])
        command.add_function_arguments(function)
        commands.add_subcommand(name, command)
    options = parser.parse_args(args)
    chosen = parser.instantiate_classes(options)[options.subcommand]
    try:
        COMMANDS[options.subcommand](**vars(chosen))
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
