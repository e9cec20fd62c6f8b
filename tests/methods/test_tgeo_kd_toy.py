"""A learned ratio trusts the teacher where the label is wrong, and the label where the teacher is.

A toy of the kind that the paper argues with: 35 % of the teacher's answers and 35 % of the labels
are wrong, each at random, and the validation data are clean.
"""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kdlight import DistillationModule, SingleInput
from kdlight.callbacks import BilevelUpdate
from kdlight.objectives import TGeoKD
from tests.support.bilevel_fit import quiet_trainer

CLASSES, WIDTH, ROWS, WRONG = 3, 8, 600, 0.35


class Toy(LightningDataModule):
    """Rows ``(x, label, teacher's logits)``; which of the two is wrong is known."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        rule = torch.randn(WIDTH, CLASSES, generator=generator)
        x = torch.randn(ROWS + 300, WIDTH, generator=generator)
        right = (x @ rule).argmax(-1)

        def spoiled(share: float) -> Tensor:
            shift = torch.randint(1, CLASSES, right.shape, generator=generator)
            wrong = torch.rand(right.shape, generator=generator) < share
            return (right + shift * wrong) % CLASSES

        labels, answers = spoiled(WRONG), spoiled(WRONG)
        noise = torch.rand(len(x), CLASSES, generator=generator)
        logits = 4.0 * nn.functional.one_hot(answers, CLASSES) + noise
        self.train = TensorDataset(x[:ROWS], labels[:ROWS], logits[:ROWS])
        self.clean = TensorDataset(x[ROWS:], right[ROWS:], logits[ROWS:])
        self.label_wrong = (labels != right)[:ROWS]
        self.teacher_wrong = (answers != right)[:ROWS]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, 200, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.clean, 300)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_ratio_finds_out_who_is_wrong(seed: int) -> None:
    torch.manual_seed(seed)
    data = Toy(seed)
    student = nn.Sequential(nn.Linear(WIDTH, 32), nn.Tanh(), nn.Linear(32, CLASSES))
    module = DistillationModule(
        student=SingleInput(student),
        teacher=SingleInput(nn.Identity(), key=2),
        objective=TGeoKD(classes=CLASSES),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.5),
    )
    trainer = quiet_trainer(BilevelUpdate(), max_epochs=100, barebones=True)
    trainer.fit(module, data)
    assert trainer.global_step == 300
    x, labels, logits = data.train.tensors
    objective = module.objective
    assert isinstance(objective, TGeoKD)
    with torch.no_grad():
        ratio = objective.network(objective.features(student(x), logits, labels))
        clean_x, clean, _ = data.clean.tensors
        accuracy = (student(clean_x).argmax(-1) == clean).float().mean()
    assert ratio[data.teacher_wrong & ~data.label_wrong].mean() < 0.2
    assert ratio[data.label_wrong & ~data.teacher_wrong].mean() > 0.8
    assert accuracy > 0.8
