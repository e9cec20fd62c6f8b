"""Responses of a teacher to prompts, sampled in batches; a run can be resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from tqdm import tqdm

from kdlight.checks import check_at_least
from kdlight.data.traces.chat import prompt_ids
from kdlight.data.traces.journal import Journal
from kdlight.data.traces.trace import Trace
from kdlight.models.sampling import Sampling


def generate_traces(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Trace],
    output: str | Path,
    *,
    sampling: Sampling,
    chat: bool,
    samples: int = 4,
    batch_size: int = 8,
    teacher: str | None = None,
) -> Path:
    """Sample responses and write them to ``output`` as JSON lines.

    An interrupted run resumes after its last complete batch. The file then has the same bytes as
    that of a run without interruption: each batch holds the same prompts and has the same seed.

    Args:
        model: a Hugging Face causal language model, or a `kdlight.CausalLM`.
        tokenizer: the tokenizer of the model.
        prompts: prompts, see `kdlight.data.traces.prompts.read_prompts`.
        output: path of the file.
        sampling: how the model generates. The seed of a batch is derived from ``sampling.seed`` and
            the position of the batch. A response without an end-of-text token is unfinished.
        chat: whether to apply the chat template of the tokenizer to prompts.
        samples: number of responses to each prompt.
        batch_size: number of responses generated at once.
        teacher: name of the model, written to each trace.

    Returns:
        The path of the file.

    Raises:
        ValueError: If there are no prompts, ``sampling`` has no ``max_new_tokens``, ``samples`` is
            below 1, or ``output`` was started with other prompts or settings.
    """
    check_at_least("samples", samples, 1)
    if sampling.max_new_tokens is None:
        raise ValueError(
            "sampling.max_new_tokens must be the maximal length of a response, got None"
        )
    if not prompts:
        raise ValueError("prompts must hold at least one prompt, got none")
    digest = sha256("\n".join(prompt.to_json() for prompt in prompts).encode()).hexdigest()
    settings = {
        "samples": samples,
        **asdict(sampling),
        "chat": chat,
        "teacher": teacher,
        "prompts": digest[:16],
    }
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    journal = Journal(output, batch_size=batch_size, total=len(repeated), settings=settings)
    remaining = iter(repeated[journal.done :])
    with tqdm(total=len(repeated), initial=journal.done, desc="generating traces", delay=2) as bar:
        while batch := list(islice(remaining, batch_size)):
            seed = int(sha256(f"{sampling.seed}:{journal.done}".encode()).hexdigest()[:8], 16)
            with isolate_rng():
                torch.manual_seed(seed)
                answers = answer(model, tokenizer, batch, chat=chat, **sampling.options())
            journal.append([replace(each, teacher=teacher).to_json() for each in answers])
            bar.update(len(batch))
    return journal.path


@torch.no_grad()
def answer(
    model: Any, tokenizer: Any, prompts: Sequence[Trace], *, chat: bool, **options: Any
) -> list[Trace]:
    """Return the responses of a model to prompts, generated in one batch with left padding."""
    device = next(model.parameters()).device
    end = tokenizer.eos_token_id
    rows = [prompt_ids(prompt.prompt, tokenizer, chat=chat) for prompt in prompts]
    longest = max(map(len, rows))
    ids = torch.tensor([[end] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor(
        [[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device
    )
    generated = model.generate(
        ids, attention_mask=mask, pad_token_id=end, eos_token_id=end, **options
    )
    answers = []
    for prompt, new_ids in zip(prompts, generated[:, longest:].tolist(), strict=True):
        finished = end in new_ids
        text_ids = new_ids[: new_ids.index(end)] if finished else new_ids
        response = tokenizer.decode(text_ids, skip_special_tokens=True)
        length = len(text_ids) + finished
        answers.append(replace(prompt, response=response, n_tokens=length, finished=finished))
    return answers
