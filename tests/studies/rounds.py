"""A study: rounds that make new data during a fit, against the same number of training tokens.

    python -m tests.studies.rounds --output FOLDER

Prompts are sums of digits, of two to four terms. A small student starts with the solved sums of a
small file, on which it would train epoch after epoch. A right solver is the teacher, and the
verifier `number` scores every answer. The students differ in what is added every few epochs:

- nothing;
- the solver's answers to new sums like those that the student gets wrong and the solver right
  (`CompetitiveRound`);
- the solver's answers to as many new sums that are drawn at random, which tells what is won by new
  data alone;
- the student's own right answers to sums without a solution (`SelfImitationRound`), also with a
  budget (`BudgetedRound`).

All train on the same number of tokens of responses, and are measured at the same numbers of them,
by greedy answers to sums that none of them has seen. Results are kept in the folder, and a run that
was stopped goes on.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from lightning.pytorch import Callback
from torch.optim import AdamW

from kdlight import CausalLM, DistillationModule
from kdlight.callbacks import (
    BudgetedRound,
    CompetitiveRound,
    RoundRecipe,
    Rounds,
    SelfImitationRound,
)
from kdlight.callbacks.round_recipes.origins import prompt_content, with_origin
from kdlight.data.traces import Sampling, Trace, answer, number
from kdlight.data.traces.sums import SimilarSums, sample_sums, solve_sums
from kdlight.data.traces.sums_module import SumsDataModule
from kdlight.objectives import CrossEntropy
from tests.studies.kept_results import KeptResults
from tests.studies.redi import quiet
from tests.support import tiny_lm, toy

TOKENIZER = tiny_lm.tokenizer()
TERMS = {"min_terms": 2, "max_terms": 4}
ROOM = 20
GREEDY = Sampling(temperature=0.0, max_new_tokens=ROOM)
SAMPLED = Sampling(temperature=0.7, max_new_tokens=ROOM)


class RandomSums(RoundRecipe):
    """Adds solved sums that are drawn at random, as many as a competitive round would add."""

    def __init__(self, competitive: RoundRecipe) -> None:
        self.competitive = competitive

    def run(self, work: Any) -> list[Trace]:
        """Return solved sums that are not there yet."""
        size = len(self.competitive.run(work))
        drawn = sample_sums(10_000, seed=work.seed("random"), **TERMS)
        new = [each for each in drawn if prompt_content(each) not in work.taken_prompts]
        return [with_origin(each, work.number, "teacher") for each in solve_sums(new[:size])]


class Tokens(Callback):
    """Counts the tokens that are trained on, measures after equal numbers of them, and stops."""

    def __init__(self, total: int, marks: int, held: list[Trace]) -> None:
        self.total, self.marks, self.held = total, marks, held
        self.seen = 0
        self.accuracies: list[float] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count, measure and stop."""
        self.seen += int((batch["labels"] != -100).sum())
        while self.seen >= self.total * (len(self.accuracies) + 1) / self.marks:
            self.accuracies.append(accuracy(pl_module.student, self.held))
        if len(self.accuracies) == self.marks:
            trainer.should_stop = True


def accuracy(student: Any, prompts: list[Trace]) -> float:
    """Share of greedy answers that are right."""
    said = answer(student, TOKENIZER, prompts, chat=False, **GREEDY.options())
    return fmean(bool(each.finished) and number(each) for each in said)


def recipes(sizes: argparse.Namespace) -> dict[str, Callable[[], RoundRecipe] | None]:
    """What is added in the rounds of each student."""

    def competitive() -> RoundRecipe:
        return CompetitiveRound(solve_sums, "number", SimilarSums(per_prompt=1), hard_share=1.0)

    return {
        "without rounds": None,
        "competitive": competitive,
        "random new prompts": lambda: RandomSums(competitive()),
        "self-imitation": lambda: SelfImitationRound("number", samples=2),
        "budgeted": lambda: BudgetedRound("number", total=sizes.per_round, probe=2),
    }


def run(
    name: str, recipe: RoundRecipe | None, folder: Path, seed: int, sizes: argparse.Namespace
) -> dict[str, Any]:
    """Train one student; return its accuracies and how much was added."""
    data = SumsDataModule(
        TOKENIZER,
        size=sizes.size,
        batch_size=16,
        validation_fraction=0.0,
        seed=seed,
        **TERMS,
    )
    own = {prompt_content(each) for each in data.prompts}
    others = sample_sums(6000, seed=1000 + seed, **TERMS)
    others = [each for each in others if prompt_content(each) not in own]
    held, unsolved = others[: sizes.held], others[sizes.held :][: sizes.per_round]
    tokens = Tokens(sizes.tokens, sizes.marks, held)
    callbacks: list[Callback] = [tokens]
    rounds = None
    if recipe is not None:
        shutil.rmtree(folder / "rounds", ignore_errors=True)  # of a run that was stopped
        imitates = isinstance(recipe, (SelfImitationRound, BudgetedRound))
        rounds = Rounds(
            recipe,
            every_n_epochs=sizes.every,
            prompts=unsolved if imitates else None,
            max_prompts=sizes.per_round,
            sampling=SAMPLED if imitates else GREEDY,
            batch_size=200,
            directory=folder / "rounds",
        )
        callbacks.append(rounds)
    torch.manual_seed(seed)
    module = DistillationModule(
        student=CausalLM.wrap(tiny_lm.model(dim=64, seed=seed)),
        objective=CrossEntropy(),
        optimizer=lambda groups: AdamW(groups, lr=sizes.lr),
    )
    trainer = toy.trainer(
        folder,
        max_epochs=-1,
        max_steps=10**6,
        limit_val_batches=0,
        reload_dataloaders_every_n_epochs=1,
        gradient_clip_val=1.0,
        callbacks=callbacks,
    )
    trainer.fit(module, data)
    return {
        "accuracy": tokens.accuracies,
        "steps": trainer.global_step,
        "rounds": len(rounds.history) if rounds else 0,
        "added": len(rounds.pool) if rounds else 0,
        "ended": rounds.ended if rounds else None,
    }


def table(results: dict[str, dict[str, Any]], marks: int, total: int) -> str:
    """Means over seeds and standard errors, by student and number of tokens."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for key, found in results.items():
        by_name.setdefault(key.rpartition(" ")[0], []).append(found)
    heads = [f"{total * (i + 1) // marks:,}" for i in range(marks)]
    lines = [
        f"| accuracy, %, after tokens | {' | '.join(heads)} | rounds | added |",
        f"| :-- | {' | '.join(['--:'] * (marks + 2))} |",
    ]
    for name, runs in by_name.items():
        cells = []
        for mark in range(marks):
            values = [100 * found["accuracy"][mark] for found in runs]
            error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
            cells.append(f"{fmean(values):.1f} ± {error:.1f}")
        counts = [f"{fmean(found[key] for found in runs):.0f}" for key in ("rounds", "added")]
        lines.append(f"| {name} | {' | '.join([*cells, *counts])} |")
    return "\n".join(lines)


def main() -> None:
    """Train all students that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--size", type=int, default=300, help="solved sums at the start")
    parser.add_argument("--held", type=int, default=500, help="sums that are measured on")
    parser.add_argument("--per-round", type=int, default=200, help="prompts in a round")
    parser.add_argument("--every", type=int, default=5, help="epochs before each round")
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--marks", type=int, default=5, help="measurements of each student")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seeds", type=int, default=3)
    sizes = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    folder = sizes.output
    folder.mkdir(parents=True, exist_ok=True)
    settings = {k: v for k, v in vars(sizes).items() if k not in ("output", "seeds")}
    results = KeptResults(folder / "results.json", settings)
    for seed in range(sizes.seeds):
        for name, make in recipes(sizes).items():
            results.get_or_compute(
                f"{name} {seed}",
                lambda name=name, make=make, seed=seed: run(
                    name, make and make(), folder / "run", seed, sizes
                ),
            )
    text = table(results, sizes.marks, sizes.tokens)
    (folder / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
