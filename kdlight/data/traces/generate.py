"""Responses of a teacher to prompts, sampled in batches; a run can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from numbers import Integral
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kdlight.checks import check_integer
from kdlight.data.traces.chat import prompt_ids
from kdlight.data.traces.journal import Journal
from kdlight.data.traces.responses import answer_through, batch_seed, check_room
from kdlight.data.traces.samples_per_prompt import samples_per_prompt
from kdlight.data.traces.tokenizer_hash import hash_generation_config, hash_tokenizer
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.weights import hash_weights
from kdlight.models.sampling import Sampling
from kdlight.rollouts import HuggingFaceRollouts, RolloutEngine, Writer


def generate_traces(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Trace],
    output: str | Path,
    *,
    sampling: Sampling,
    chat: bool,
    samples: int | Mapping[str, int] | str | Path = 4,
    batch_size: int = 8,
    teacher: str | None = None,
    engine: RolloutEngine | None = None,
    ends: Sequence[int] = (),
) -> Path:
    """Sample responses and write them to ``output`` as JSON lines.

    An interrupted run resumes after its last complete batch. The file then has the same bytes as
    that of a run without interruption: each batch holds the same prompts and has the same seed.
    Only one process at a time can write a file. Each trace has the number of its response to the
    prompt in ``meta["generation"]``; lines that stand there twice or are damaged are removed when a
    run is started again.

    Args:
        model: a Hugging Face causal language model, or a `kdlight.CausalLM`; None to generate with
            the model that the server of ``engine`` has.
        tokenizer: the tokenizer of the model.
        prompts: prompts, see `kdlight.data.traces.prompts.read_prompts`.
        output: path of the file.
        sampling: how the model generates. The seed of a batch is derived from ``sampling.seed`` and
            the position of the batch. A response without an end token is unfinished.
        chat: whether to apply the chat template of the tokenizer to prompts.
        samples: number of responses to each prompt; or numbers by prompt id, 0 for none, or the
            path of a JSON file with them, see `kdlight.data.traces.allocate_budget`.
        batch_size: number of responses generated at once.
        teacher: name of the model, written to each trace.
        engine: what generates, such as a `kdlight.rollouts.VLLMRollouts`; None for ``generate`` of
            the model.
        ends: ids of tokens that end a response beside those of tokenizer and model, as those of the
            generation config of a model that only a server has.

    Returns:
        The path of the file.

    Raises:
        ValueError: If there are no prompts, or two with the same id; ``sampling`` has no
            ``max_new_tokens``, or more than the context of the model has room for; ``samples`` or
            ``batch_size`` is below 1, or ``samples`` lacks a prompt or has an id that no prompt
            has; ``output`` was started with other prompts or settings, such as another dtype,
            other weights or another chat template, or is written by another process; another run
            has replaced the weights of a server.
        ServerError: If a server does not answer, or gets another model. What it wrote before is in
            the file.
    """
    check_integer("batch_size", batch_size, 1)
    if sampling.max_new_tokens is None:
        raise ValueError(
            "sampling.max_new_tokens must be the maximal length of a response, got None"
        )
    if not prompts:
        raise ValueError("prompts must hold at least one prompt, got none")
    ids = [prompt.prompt_id for prompt in prompts]
    if len(set(ids)) < len(ids):
        raise ValueError("prompts must have different ids, `prompt_id`, but two are the same")
    numbers = samples_per_prompt(samples, ids)
    asked = [prompt for prompt, number in zip(prompts, numbers, strict=True) if number]
    rows = [prompt_ids(each.prompt, tokenizer, chat=chat, tools=each.tools) for each in asked]
    engine = HuggingFaceRollouts() if engine is None else engine
    check_model(model, engine)
    check_room(model, asked, rows, sampling.max_new_tokens)
    digest = sha256("\n".join(prompt.to_json() for prompt in prompts).encode()).hexdigest()
    settings = {
        "samples": samples if isinstance(samples, Integral) else _summary(numbers),
        **asdict(sampling),
        "chat": chat,
        "teacher": teacher,
        "prompts": digest[:16],
        "tokenizer": hash_tokenizer(tokenizer),
        **({"ends": sorted(ends)} if ends else {}),
    }
    tasks = [
        replace(prompt, teacher=teacher, meta={**prompt.meta, "generation": number})
        for prompt, count in zip(prompts, numbers, strict=True)
        for number in range(count)
    ]
    keys = [(task.prompt_id, task.meta["generation"]) for task in tasks]
    writer = Writer(None) if model is None else Writer(model, next(model.parameters()).device)
    make = partial(
        answer_through, engine, writer, tokenizer, chat=chat, sampling=sampling, ends=ends
    )
    try:
        engine.prepare(writer)
        check_room(model, asked, rows, sampling.max_new_tokens, context=engine.context)
        settings |= _identity(model, engine)
        with Journal.open(
            output, keys=keys, key_of=_key, batch_size=batch_size, settings=settings
        ) as journal:
            engine.synchronise(writer, 0)
            _generate(make, engine.check_unchanged, tasks, journal, batch_size, sampling.seed)
    finally:
        engine.close()
    return journal.path


def check_model(model: Any, engine: RolloutEngine) -> None:
    """Raise a ValueError where there is no model, and the engine has none of its own.

    Example:
        >>> check_model(None, HuggingFaceRollouts())
        Traceback (most recent call last):
        ValueError: model is None, but HuggingFaceRollouts generates with a model; give it one
    """
    if model is None and engine.runs_network:
        raise ValueError(
            f"model is None, but {type(engine).__name__} generates with a model; give it one"
        )


def _identity(model: Any, engine: RolloutEngine) -> dict[str, Any]:
    """Return what tells models, and engines, apart."""
    own = {
        "dtype": None if model is None else str(next(model.parameters()).dtype),
        "weights": None if model is None else hash_weights(model),
        "generation config": hash_generation_config(model),
    }
    return {**own, **engine.identity()}


def _summary(numbers: Sequence[int]) -> str:
    """Return in a few words which numbers of responses the prompts get."""
    digest = sha256(repr(numbers).encode()).hexdigest()[:16]
    return f"{sum(numbers)} for {len(numbers)} prompts, {digest}"


def _key(row: Mapping[str, Any]) -> Hashable:
    return row["prompt_id"], row["meta"]["generation"]


def _generate(
    make: Callable[..., list[Trace]],
    check: Callable[[], None],
    tasks: Sequence[Trace],
    journal: Journal,
    batch_size: int,
    seed: int,
) -> None:
    """Generate the responses that the journal does not have yet."""
    with tqdm(total=len(tasks), initial=journal.done, desc="generating traces", delay=2) as bar:
        while batch := tasks[journal.done : journal.done + batch_size]:
            answers = make(batch, seed=batch_seed(seed, journal.done))
            check()  # a file has the text of one model
            journal.append([each.to_json() for each in answers])
            bar.update(len(batch))
