"""One process: train a student by one method from one seed, and measure it.

python -m tests.studies.compare.fit FOLDER METHOD SEED
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from kdlight import CausalLM, DistillationModule
from kdlight.export import export_student
from kdlight.models import load_tokenizer
from kdlight.objectives import ForwardKL
from tests.studies.compare.methods import METHODS
from tests.studies.compare.outside import evaluate
from tests.studies.compare.remembered import Remembered
from tests.studies.compare.results import Figures, write
from tests.studies.compare.setting import Setting, Text
from tests.studies.compare.training import QUIET, train

WANTED = ("forward_kl", "reverse_kl", "perplexity", "top1_agreement", "ece")


def fit(folder: Path, name: str, seed: int) -> Figures:
    """The figures of one student; of one that does not learn, as it is."""
    setting = Setting.load(folder)
    if METHODS[name].objective is None:
        student = CausalLM(str(folder / {"teacher": "teacher", "before": "student"}[name]))
    else:
        student, _ = train(folder, name, seed=seed, steps=setting.steps)
    return {
        **held_out(student, folder),
        "own_text_agreement": own_text_agreement(student, folder),
        **(harness(student, folder) if setting.harness else {}),
    }


def held_out(student: CausalLM, folder: Path) -> Figures:
    """Divergences from the whole teacher, and the like, on held-out blocks, in float32."""
    setting = Setting.load(folder)
    teacher = Remembered(folder / "whole.safetensors")
    trainer = Trainer(**QUIET, limit_val_batches=setting.held_out // setting.batch)
    module = DistillationModule(student, ForwardKL(), teacher)
    (values,) = trainer.validate(module, Text(folder), verbose=False)
    return {name: values[f"val/{name}"] for name in WANTED}


@torch.no_grad()
def own_text_agreement(student: CausalLM, folder: Path) -> float:
    """How often the teacher would have said what the student says, in text of the student's own."""
    setting = Setting.load(folder)
    blocks, prompt = Text(folder).validation_blocks, setting.prompt_tokens
    prompts = torch.stack([blocks[i]["input_ids"][:prompt] for i in range(setting.prompts)])
    new = setting.new_tokens
    text = student.generate(prompts, max_new_tokens=new, do_sample=False, eos_token_id=None)
    would = CausalLM(str(folder / "teacher")).eval()({"input_ids": text}).logits().argmax(-1)
    return (would[:, prompt - 1 : -1] == text[:, prompt:]).double().mean().item()


def harness(student: CausalLM, folder: Path) -> Figures:
    """What an evaluation says that reads the exported student and knows nothing of kdlight."""
    with tempfile.TemporaryDirectory() as exported:
        tokenizer = load_tokenizer(str(folder / "student"))
        export_student(student, exported, tokenizer=tokenizer, overwrite=True)
        return evaluate(Path(exported), folder / "task")


if __name__ == "__main__":
    write(fit, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
