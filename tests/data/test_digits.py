"""A stratified split of the digits, which the seed decides."""

from __future__ import annotations

import pytest
import torch

from kdlight.data import DigitsDataModule


def everything(loader) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_every_digit_is_in_one_part_once():
    data = DigitsDataModule(validation_fraction=0.25)
    train, train_labels = everything(data.train_dataloader())
    held_out, held_out_labels = everything(data.val_dataloader())
    assert (len(train), len(held_out)) == (1347, 450)
    assert held_out.shape[1:] == (1, 8, 8)
    assert held_out.dtype == torch.float32
    assert (train.min(), train.max()) == (0, 1)
    assert set(train_labels.tolist()) == set(range(10))
    assert not {tuple(i.flatten().tolist()) for i in train} & {
        tuple(i.flatten().tolist()) for i in held_out
    }
    shares = torch.stack(
        [labels.bincount() / len(labels) for labels in (train_labels, held_out_labels)]
    )
    assert (shares[0] - shares[1]).abs().max() < 0.01


def test_the_seed_draws_the_split_and_nothing_else_does():
    def held_out(seed: int) -> torch.Tensor:
        return everything(DigitsDataModule(seed=seed).val_dataloader())[0]

    first = held_out(0)
    torch.manual_seed(1)
    assert torch.equal(first, held_out(0))
    assert not torch.equal(first, held_out(1))


def test_no_random_number_is_taken_from_the_model():
    data = DigitsDataModule()
    before = torch.get_rng_state()
    everything(data.train_dataloader())
    everything(data.val_dataloader())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "wrong",
    [
        {"validation_fraction": 1.0},
        {"batch_size": 0},
        {"eval_batch_size": 0},
        {"seed": -1},
        {"seed": 2**32},
        {"num_workers": -1},
    ],
)
def test_arguments_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DigitsDataModule(**wrong)
