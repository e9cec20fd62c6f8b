"""What is done once: the text, the networks as folders, and the teacher's answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from lightning.pytorch import Trainer
from tqdm import tqdm

from kdlight import CausalLM, DistillationModule, PrunedCausalLM
from kdlight.cache.cache_pass import write_cache
from kdlight.cache.settings import Settings
from kdlight.models import load_tokenizer
from kdlight.objectives import ForwardKL
from tests.studies.compare.outside import write_task
from tests.studies.compare.remembered import Remembered, remember
from tests.studies.compare.setting import Setting, Text
from tests.studies.compare.training import QUIET


def prepare(folder: Path) -> None:
    """Do what is not done yet of everything that the fits begin with."""
    setting = Setting.load(folder)

    def networks() -> None:
        tokenizer = load_tokenizer(setting.source)
        teacher = CausalLM(setting.source)
        student = PrunedCausalLM(layers=setting.layers).build(teacher)
        student.save_pretrained(folder / "student", tokenizer=tokenizer)
        teacher.save_pretrained(folder / "teacher", tokenizer=tokenizer)

    def whole() -> None:
        data = Text(folder)
        parts = (data.train_blocks, data.validation_blocks)
        blocks = [part[i]["input_ids"] for part in parts for i in range(len(part))]
        teacher = CausalLM(str(folder / "teacher")).eval()
        remember(teacher, blocks, folder / "whole.safetensors", batch=setting.batch)

    def top() -> None:
        kept = Settings(k=setting.k)
        teacher = Remembered(folder / "whole.safetensors")
        module = DistillationModule(CausalLM(str(folder / "student")), ForwardKL(), teacher)
        write_cache(module, Text(folder), Trainer(**QUIET), str(folder / "top"), kept)

    def task() -> None:
        data = Text(folder)
        if setting.held_out > len(data.validation_blocks):
            raise ValueError(
                f"held_out is {setting.held_out} blocks, and max_tokens={setting.max_tokens} leaves"
                f" {len(data.validation_blocks)}: give fewer, or more tokens, and another --output"
            )
        blocks = [data.validation_blocks[i]["input_ids"] for i in range(setting.held_out)]
        write_task([data.tokenizer.decode(each) for each in blocks], folder / "task")

    parts = (networks, task, whole, top)  # what may be refused comes early
    for part in tqdm([each for each in parts if not _done(each, folder).exists()], desc="teacher"):
        part()
        _done(part, folder).touch()
    sizes = {path.stem: _bytes(path) for path in (folder / "whole.safetensors", folder / "top")}
    (folder / "prepared.json").write_text(
        json.dumps({**Text(folder).summary, "bytes": sizes}, indent=2)
    )


def _done(part: Callable[[], None], folder: Path) -> Path:
    return folder / f"{part.__name__}.done"


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files if each.is_file())
