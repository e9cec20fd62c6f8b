"""What ``kdlight traces generate`` does, and its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdlight.cli.devices import find_device
from kdlight.data.traces.chat import uses_chat
from kdlight.data.traces.generate import generate_traces
from kdlight.data.traces.prompts import read_prompts
from kdlight.data.traces.samples_per_prompt import samples_per_prompt
from kdlight.models import Sampling, load_model, load_tokenizer
from kdlight.models.configured_ends import configured_ends
from kdlight.rollouts import RolloutEngine


def generate(
    source: str,
    prompts: str,
    output: str,
    samples: int | str = 4,
    sampling: Sampling = Sampling(temperature=0.7, max_new_tokens=512),  # noqa: B008
    batch_size: int = 8,
    chat: bool | None = None,
    size: int = 100,
    prompts_seed: int = 0,
    options: dict[str, Any] | None = None,
    dtype: str | None = None,
    device: str | None = None,
    engine: RolloutEngine | None = None,
) -> None:
    """Sample a teacher's answers to prompts; an interrupted run continues when started again.

    Args:
        source: the teacher, like the source of a CausalLM.
        prompts: JSON lines, hf:NAME, or reasoning_gym:TASK.
        output: file of JSON lines to write.
        samples: number of answers to each prompt; or a JSON file with a number for each prompt_id.
        sampling: how the teacher generates.
        batch_size: answers generated at once.
        chat: use the tokenizer's chat template for prompts; by default if it has one.
        size: number of prompts from reasoning-gym.
        prompts_seed: seed of the prompts from reasoning-gym.
        options: options of the reasoning-gym task.
        dtype: such as bfloat16; float32 by default.
        device: such as cuda:0; by default an accelerator if there is one.
        engine: what generates instead, with a teacher that it has loaded already, such as
            VLLMRollouts; the source then is the name of this teacher, and its tokenizer.
    """
    tasks = read_prompts(prompts, size=size, seed=prompts_seed, options=options)
    total = sum(samples_per_prompt(samples, [task.prompt_id for task in tasks]))
    tokenizer: Any = load_tokenizer(source)
    model: Any = None
    ends: list[int] = []
    if engine is None:
        where = find_device(device)
        loaded: Any = load_model(source, dtype=dtype)
        model = loaded.to(where)
    else:
        check_engine(engine, source, dtype=dtype, device=device)
        ends = configured_ends(source)
    path = generate_traces(
        model,
        tokenizer,
        tasks,
        output,
        sampling=sampling,
        samples=samples,
        chat=uses_chat(tokenizer, chat),
        batch_size=batch_size,
        teacher=source,
        engine=engine,
        ends=ends,
    )
    print(f"{len(tasks)} prompts, {total} traces: {path}")


def check_engine(engine: RolloutEngine, source: str, **local: Any) -> None:
    """Raise a ValueError where an engine has another model than the source, or none of its own.

    Args:
        engine: what generates.
        source: the teacher, whose name is written to the traces.
        **local: options that have an effect on a model in this process only.
    """
    if engine.runs_network:
        raise ValueError(f"{type(engine).__name__} is what generates by default; leave engine out")
    for name, value in local.items():
        if value is not None:
            raise ValueError(f"{name} has no effect on the model of a server; leave it out")
    names = engine.names()
    engine.close()  # until the first prompt
    if source not in names and str(Path(source).absolute()) not in names:
        raise ValueError(
            f"the server has the model {names[0]!r}, read from {names[-1]!r}, not the source"
            f" {source!r}; name the model that it has, so that the traces tell who wrote them"
        )
