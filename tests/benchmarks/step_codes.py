"""A training step of the quick start's pair in kdlight, in TRL and in Lightning by hand.

Run as a script by bench_step.py, a process for each code. It takes some steps, writes ``@ready``,
and then for each line that it reads a block of steps, whose seconds it writes; at the end of its
input it writes its peak memory. What student and teacher weigh is random, and so is the text: a
step takes as long with any other numbers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight import DistillationModule
from kdlight.models import CausalLM
from kdlight.objectives import build_objective
from tests.benchmarks.fused_peers import BETA
from tests.benchmarks.plain import PLAIN
from tests.benchmarks.step_parts import ROWS, SMOLLM2, TINY, Text, Turns, add_sizes, pair

LEARNING_RATE, CLIP = 1e-3, 1.0


def lightning_fit(module: Any, text: Text, turns: Turns, options: argparse.Namespace) -> None:
    """Train with Lightning's Trainer, without logs, checkpoints and progress bar."""
    from lightning.pytorch import Callback, Trainer

    class Take(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            turns.step_done()

    trainer = Trainer(
        max_steps=2**20,
        max_epochs=-1,
        accelerator="cpu" if options.device == "cpu" else "gpu",
        devices=1,
        precision=options.precision,
        gradient_clip_val=CLIP,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Take()],
    )
    trainer.fit(module, DataLoader(text, batch_size=options.batch))


def kdlight(text: Text, turns: Turns, options: argparse.Namespace) -> None:
    """This library's module."""
    teacher, student = pair(options.size)
    module = DistillationModule(
        student=CausalLM.wrap(student),
        teacher=CausalLM.wrap(teacher),
        objective=build_objective(options.objective),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=LEARNING_RATE),
    )
    lightning_fit(module, text, turns, options)


def plain(text: Text, turns: Turns, options: argparse.Namespace) -> None:
    """A LightningModule as one writes it at hand."""
    from lightning.pytorch import LightningModule

    class Plain(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.teacher, self.student = pair(options.size)
            self.teacher.eval().requires_grad_(False)

        def training_step(self, batch: Any, index: int) -> Tensor:
            inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
            with torch.no_grad():
                teacher = self.teacher(**inputs).logits[:, :-1].flatten(0, 1).float()
            student = self.student(**inputs).logits[:, :-1].flatten(0, 1).float()
            labels = batch["labels"][:, 1:].flatten()
            return PLAIN[options.objective](student, teacher, labels).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.student.parameters(), lr=LEARNING_RATE)

    lightning_fit(Plain(), text, turns, options)


def trl(text: Text, turns: Turns, options: argparse.Namespace) -> None:
    """TRL's GKDTrainer, off-policy; its defaults of bfloat16 and recomputation are off."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from datasets import Dataset as Rows  # pyright: ignore[reportMissingImports]
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback, default_data_collator
    from trl.experimental.gkd import (  # pyright: ignore[reportMissingImports]
        GKDConfig,
        GKDTrainer,
    )

    class Take(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            turns.step_done()

    teacher, student = pair(options.size)
    signs = Tokenizer(models.WordLevel({"<end>": 0}, unk_token="<end>"))
    arguments = GKDConfig(
        output_dir=tempfile.mkdtemp(),
        lmbda=0.0,
        beta=BETA[options.objective],
        max_steps=2**20,
        per_device_train_batch_size=options.batch,
        max_length=options.length,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=0.01,  # that of torch.optim.AdamW
        max_grad_norm=CLIP,
        optim="adamw_torch",
        bf16=options.precision == "bf16-mixed",
        gradient_checkpointing=False,
        use_cpu=options.device == "cpu",
        dataloader_pin_memory=False,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )
    GKDTrainer(
        model=student,
        teacher_model=teacher,
        args=arguments,
        data_collator=default_data_collator,
        # it takes no other kind of data
        train_dataset=Rows.from_list([text[index] for index in range(ROWS)]).with_format("torch"),
        processing_class=PreTrainedTokenizerFast(
            tokenizer_object=signs, eos_token="<end>", pad_token="<end>"
        ),
        callbacks=[Take()],
    ).train()


CODES = {"kdlight": kdlight, "plain": plain, "trl": trl}


def main() -> None:
    """Train, a block of steps at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("code", choices=CODES)
    add_sizes(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    vocabulary = (TINY if options.size == "tiny" else SMOLLM2)["vocab_size"]
    turns = Turns(options.warmup, options.steps, options.device)
    CODES[options.code](Text(vocabulary, options.length), turns, options)


if __name__ == "__main__":
    main()
