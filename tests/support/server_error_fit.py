"""A fit on two ranks of which one loses the teacher's server; a script, started by a test."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from kdlight import FrozenTeacher
from kdlight.callbacks import ExactResume
from kdlight.endpoints import ServerError
from tests.support.served_fit import Rows, causal_lm, module, trainer


class LosesItsServer(FrozenTeacher):
    """A local teacher that fails like a server, at one micro-batch of one rank."""

    is_remote = True  # pyright: ignore[reportAssignmentType]

    def __init__(self, model: Any, *, at: int, rank: int | None) -> None:
        super().__init__(model)
        self.at, self.rank, self.asked = at, rank, 0

    def answer(self, batch: Any, student: Any = None, labels: Any = None) -> Any:
        self.asked += 1
        rank = int(os.environ.get("LOCAL_RANK", 0))
        if self.asked >= self.at > 0 and self.rank in (None, rank):
            raise ServerError("http://teacher:8000 did not answer", url="http://teacher:8000")
        return super().answer(batch, student, labels)


def run(
    folder: Path,
    *,
    at: int = 0,
    rank: int | None = None,
    ckpt_path: str | None = None,
    exact: bool = True,
    data: Any = None,
    **options: Any,
) -> Any:
    made = module(LosesItsServer(causal_lm(), at=at, rank=rank))
    callbacks = [ExactResume()] if exact else []
    made_trainer: Trainer = trainer(folder, callbacks=callbacks, max_epochs=2, **options)
    made_trainer.fit(made, data or Rows(batch_size=2), ckpt_path=ckpt_path)
    return made


class ValidatedRows(Rows):
    def val_dataloader(self) -> Any:
        return self.train_dataloader()


def main(folder: Path, at: int) -> None:
    try:
        data = ValidatedRows(batch_size=2)
        options = {"devices": 2, "strategy": "ddp", "num_sanity_val_steps": 0}
        run(folder, at=at, rank=1, data=data, **options)
        told = "no error"
    except ServerError as error:
        told = str(error)
    rank = os.environ.get("LOCAL_RANK", "0")
    (folder / f"rank{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
