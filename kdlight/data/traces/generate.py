"""Sampling a teacher's answers to prompts, batch by batch, to be gone on with after a kill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from tqdm import tqdm

from kdlight.data.traces.chat import prompt_ids
from kdlight.data.traces.journal import Journal
from kdlight.data.traces.record import Trace


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        samples: answers to each prompt.
        max_new_tokens: length of an answer; one that does not end by then is unfinished.
        temperature: of the draw; 0 takes the likeliest token.
        top_p: the share of the probability to draw from.
        seed: of the draw. Each batch has a seed of its own, made of this one and its place.

    Example:
        >>> Sampling(temperature=0, max_new_tokens=8).options()
        {'max_new_tokens': 8, 'do_sample': False}
    """

    samples: int = 4
    max_new_tokens: int = 512
    temperature: float = 0.7
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("samples", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")

    def options(self) -> dict[str, Any]:
        """What ``generate`` of a Hugging Face model takes."""
        length: dict[str, Any] = {"max_new_tokens": self.max_new_tokens}
        if self.temperature == 0:
            return {**length, "do_sample": False}
        return {
            **length,
            "do_sample": True,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": 0,  # Hugging Face would draw from 50 tokens
        }


def generate_traces(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Trace],
    output: str | Path,
    *,
    sampling: Sampling,
    chat: bool,
    batch_size: int = 8,
    teacher: str | None = None,
) -> Path:
    """Sample answers and write them to ``output`` as JSON lines.

    Run again after a kill, it goes on behind the last whole batch, and ends with the same bytes
    as an undisturbed run: a batch holds the same prompts and is drawn with the same seed.

    Args:
        model: a Hugging Face causal language model, or a `kdlight.CausalLM`.
        tokenizer: its tokenizer.
        prompts: see `kdlight.data.traces.prompts.read_prompts`.
        output: where to.
        sampling: how to draw.
        chat: put prompts into the tokenizer's chat template.
        batch_size: answers drawn at once.
        teacher: name of the model, kept with each trace.

    Raises:
        ValueError: no prompts, or ``output`` was begun with other prompts or settings.
    """
    if not prompts:
        raise ValueError("there are no prompts to answer")
    names = sha256("\n".join(prompt.to_json() for prompt in prompts).encode()).hexdigest()
    settings = {**asdict(sampling), "chat": chat, "teacher": teacher, "prompts": names[:16]}
    asked = [prompt for prompt in prompts for _ in range(sampling.samples)]
    journal = Journal(output, batch_size=batch_size, total=len(asked), settings=settings)
    rest = iter(asked[journal.done :])
    with tqdm(total=len(asked), initial=journal.done, desc="generating traces", delay=2) as bar:
        while batch := list(islice(rest, batch_size)):
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
    """The model's answers to some prompts, in one batch."""
    device = next(model.parameters()).device
    end = tokenizer.eos_token_id
    rows = [prompt_ids(prompt.prompt, tokenizer, chat=chat) for prompt in prompts]
    longest = max(map(len, rows))
    ids = torch.tensor([[end] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor(
        [[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device
    )
    out = model.generate(ids, attention_mask=mask, pad_token_id=end, eos_token_id=end, **options)
    answers = []
    for prompt, new in zip(prompts, out[:, longest:].tolist(), strict=True):
        finished = end in new
        text = new[: new.index(end)] if finished else new
        response = tokenizer.decode(text, skip_special_tokens=True)
        length = len(text) + finished
        answers.append(replace(prompt, response=response, n_tokens=length, finished=finished))
    return answers
