"""A study: text of three domains drawn by DDK's weights, uniformly, and in proportion to its size.

    python -m tests.studies.domains --output FOLDER

Domains are the help texts, source code and tables of Python's standard library, a token a
character. The teacher, a Llama of four layers and 128 channels, is trained on them in proportion to
their size. Students of two layers and 64 channels start from random weights and learn with
cross-entropy and 0.2 forward KL, all on equally many tokens. What is compared is the ratio of the
perplexities of student and teacher on validation text of each domain that no weight was computed
from. Results are kept in the folder, and a run that was stopped goes on with the next fit.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader, Subset

from kdlight import CausalLM, DistillationModule, FrozenTeacher
from kdlight.callbacks import DomainReweighting
from kdlight.callbacks.domains.perplexities import domain_perplexities
from kdlight.data import DomainDataModule
from kdlight.objectives import CrossEntropy, ForwardKL, Weighted
from tests.studies.domains_picture import draw
from tests.studies.fusion import cell
from tests.studies.kept_results import KeptResults
from tests.support import tiny_lm

DOMAINS = {"help": None, "code": "package:asyncio/*.py", "tables": "package:encodings/cp*.py"}
WAYS = {"uniform": "uniform", "proportional": "proportional", "DDK": "uniform"}
SAMPLES, HELD_OUT, UPDATES = 40, 200, 10
Results = dict[str, Any]


def data(seed: int, weights: str = "uniform") -> DomainDataModule:
    """Return the text; the seed is that of the draws, the validation text is always the same."""
    module = DomainDataModule(
        tiny_lm.tokenizer(), DOMAINS, weights=weights, block_size=128, batch_size=16
    )
    module.setup()
    module.seed = seed
    return module


def held_out(domains: DomainDataModule) -> dict[str, DataLoader]:
    """Return validation blocks of each domain behind those that weights are computed from."""
    loaders = {}
    for name, text in domains.texts.items():
        chosen = range(SAMPLES, SAMPLES + HELD_OUT)
        loaders[name] = DataLoader(Subset(text.validation_blocks, chosen), batch_size=32)
    return loaders


def fit(
    module: DistillationModule, domains: DomainDataModule, steps: int, *callbacks: Callback
) -> Trainer:
    """Train for some steps."""
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(module, domains)
    return trainer


def optimizers(rate: float, steps: int) -> dict[str, Any]:
    return {
        "optimizer": lambda groups: torch.optim.AdamW(groups, lr=rate),
        "lr_scheduler": lambda each: torch.optim.lr_scheduler.PolynomialLR(each, steps),
    }


def teacher(folder: Path, steps: int) -> CausalLM:
    """Return the teacher, trained at the first call."""
    path = folder / "teacher.pt"
    network = CausalLM.wrap(tiny_lm.model(layers=4, dim=128, seed=100))
    if not path.exists():
        torch.manual_seed(0)
        module = DistillationModule(network, CrossEntropy(), **optimizers(3e-3, steps))
        fit(module, data(100, "proportional"), steps)
        torch.save(network.state_dict(), path)
    network.load_state_dict(torch.load(path))
    return network


def run(way: str, seed: int, folder: Path, steps: int, teacher_steps: int) -> Results:
    """Train a student; return the ratios on held-out text, and its weights over the draws."""
    torch.manual_seed(seed)
    terms = {"cross_entropy": CrossEntropy(), "forward_kl": ForwardKL()}
    module = DistillationModule(
        CausalLM.wrap(tiny_lm.model(layers=2, dim=64, seed=seed)),
        Weighted(terms, weights={"forward_kl": 0.2}),
        FrozenTeacher(teacher(folder, teacher_steps)),
        **optimizers(3e-3, steps),
    )
    domains = data(seed, WAYS[way])
    every = max(steps // UPDATES, 1)
    callbacks = [DomainReweighting(every=every, samples=SAMPLES)] if way == "DDK" else []
    trainer = fit(module, domains, steps, *callbacks)
    found = domain_perplexities(trainer, module, held_out(domains), with_teacher=True)
    ratios = {name: found.student[name] / found.teacher[name] for name in domains.names}
    drawn = domains.sampler.draws.domains(0, steps * domains.batch_size).bincount(minlength=3)
    return {
        "ratios": ratios,
        "teacher": found.teacher,
        "plan": domains.sampler.draws.plan,
        "shares": [count / (steps * domains.batch_size) for count in drawn.tolist()],
    }


def table(results: Results, seeds: int) -> str:
    """Return the ratios of each way, and the paired differences from uniform draws."""
    lines = ["| drawn | " + " | ".join(DOMAINS) + " | worst | mean | worst against uniform |"]
    lines.append("| :-- |" + " --: |" * (len(DOMAINS) + 3))
    for way in WAYS:
        runs = [results[f"{way}|{seed}"]["ratios"] for seed in range(seeds)]
        plain = [results[f"uniform|{seed}"]["ratios"] for seed in range(seeds)]
        cells = [cell([each[name] for each in runs], "{:.3f} ± {:.3f}") for name in DOMAINS]
        worst = [max(each.values()) for each in runs]
        cells.append(cell(worst, "{:.3f} ± {:.3f}"))
        means = [sum(each.values()) / len(each) for each in runs]
        cells.append(cell(means, "{:.3f} ± {:.3f}"))
        gaps = [a - max(b.values()) for a, b in zip(worst, plain, strict=True)]
        cells.append(cell(gaps, "{:+.3f} ± {:.3f}"))
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    one = results["uniform|0"]["teacher"]
    words = ", ".join(f"{name} {value:.2f}" for name, value in one.items())
    shares = [results[f"DDK|{seed}"]["shares"] for seed in range(seeds)]
    drawn = (
        f"{name} {cell([100 * each[number] for each in shares])} %"
        for number, name in enumerate(DOMAINS)
    )
    return "\n".join(lines) + (
        f"\n\nPerplexity of the teacher: {words}. Drawn by DDK: {', '.join(drawn)}."
    )


def main(arguments: list[str] | None = None) -> None:
    """Do the runs that are not done yet, and write the table and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="of a student")
    parser.add_argument("--teacher-steps", type=int, default=1200)
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "results.json"
    settings = {"steps": options.steps, "teacher_steps": options.teacher_steps}
    results = KeptResults(path, settings)
    sizes = (options.steps, options.teacher_steps)
    for seed in range(options.seeds):
        for way in WAYS:
            results.get_or_compute(
                f"{way}|{seed}",
                lambda way=way, seed=seed: run(way, seed, options.output, *sizes),
            )
    text = table(results, options.seeds)
    (options.output / "table.md").write_text(text + "\n", encoding="utf-8")
    draw(results, list(DOMAINS), options.seeds, options.output / "domains.svg")
    print(text)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    main()
