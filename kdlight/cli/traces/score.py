"""What ``kdlight traces score`` does, and its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdlight.cli.devices import find_device
from kdlight.cli.traces.files import check_outputs
from kdlight.data.traces import read_traces
from kdlight.data.traces.chat import uses_chat
from kdlight.data.traces.prompt_groups import CORRECT
from kdlight.data.traces.scoring.judge import INSTRUCTION
from kdlight.data.traces.scoring.score import check_wanted, score_traces
from kdlight.models import CausalLM, load_tokenizer


def score(
    files: list[str] | str,
    output: str,
    tokens: bool = False,
    perplexity: bool = False,
    difficulty: str | None = None,
    model: str | None = None,
    levels: int | None = None,
    threshold: float = CORRECT,
    instruction: str = INSTRUCTION,
    chat: bool | None = None,
    batch_size: int = 8,
    dtype: str | None = None,
    device: str | None = None,
) -> None:
    """Fill tokens, perplexity or difficulty of traces; an interrupted run continues when restarted.

    Args:
        files: traces.
        output: file of JSON lines to write, with the same traces in the same order.
        tokens: fill n_tokens, the length of each response, by the tokenizer of the model.
        perplexity: fill perplexity, that of each response under the model.
        difficulty: fill difficulty of each prompt. pass_rate is the fraction of its traces that are
            incorrect, by their scores; give all three files of kdlight traces verify, since a
            truncated answer is incorrect, too. judge is the probability that the model calls the
            prompt difficult.
        model: student, teacher or judge, like the source of a CausalLM.
        levels: number of levels of difficulty, from 1, the easiest; by default a number from 0
            to 1.
        threshold: the minimum score of a correct trace, for pass_rate.
        instruction: what the judge is told; it must ask for 1 if a problem is difficult, else 0.
        chat: use the tokenizer's chat template; by default if it has one.
        batch_size: traces that the model reads at once.
        dtype: such as bfloat16; float32 by default.
        device: such as cuda:0; by default an accelerator if there is one.
    """
    check_wanted(tokens=tokens, perplexity=perplexity, difficulty=difficulty, levels=levels)
    reads = perplexity or difficulty == "judge"
    needing = {"tokens": tokens, "perplexity": perplexity, "difficulty=judge": reads}
    if model is None and (tokens or reads):
        first = next(name for name, wanted in needing.items() if wanted)
        raise ValueError(f"{first} needs a model; set model to its source")
    if model is not None and not (tokens or reads):
        raise ValueError("model has no effect on difficulty=pass_rate; leave it out")
    where = find_device(device) if reads else "cpu"
    names = [files] if isinstance(files, str) else files
    check_outputs(names, [Path(output)])
    traces = read_traces(names)
    tokenizer: Any = None if model is None else load_tokenizer(model)
    network = None
    if model is not None and reads:
        network = CausalLM(model, dtype=dtype).to(where)
        network.compare_next = True  # its own logits with those of the whole model, once
    report = score_traces(
        traces,
        output,
        model=network,
        tokenizer=tokenizer,
        tokens=tokens,
        perplexity=perplexity,
        difficulty=difficulty,
        levels=levels,
        threshold=threshold,
        instruction=instruction,
        chat=tokenizer is not None and uses_chat(tokenizer, chat),
        batch_size=batch_size,
        name=model,
    )
    print(f"{report}: {output}")
