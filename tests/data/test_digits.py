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
        {"label_noise": 1.1},
        {"trusted_fraction": 1.0},
        {"label_noise": -0.1},
        {"train_classes": []},
        {"train_classes": [1, 1]},
        {"train_classes": [10]},
        {"train_classes": [-1, 2]},
    ],
)
def test_arguments_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DigitsDataModule(**wrong)


@pytest.mark.parametrize("wrong", [5, "12", [True, 2], [0.0, 1]], ids=str)
def test_classes_of_another_type(wrong):
    with pytest.raises(TypeError, match="train_classes must be"):
        DigitsDataModule(train_classes=wrong)


def test_all_images_set_apart():
    with pytest.raises(ValueError, match=r"trusted_fraction=0.9999 sets all 1437 .* apart"):
        DigitsDataModule(trusted_fraction=0.9999).setup()


def test_a_share_of_the_training_labels_is_wrong_and_nothing_else():
    clean, noisy = DigitsDataModule(seed=3), DigitsDataModule(seed=3, label_noise=0.3)
    assert not clean.wrong_labels.any()
    assert noisy.wrong_labels.sum() == round(0.3 * len(noisy.train_images))
    labels, right = noisy.train_images.tensors[1], clean.train_images.tensors[1]
    assert torch.equal(labels != right, noisy.wrong_labels)
    assert set(labels.tolist()) == set(range(10))
    assert torch.equal(noisy.train_images.tensors[0], clean.train_images.tensors[0])
    for ours, theirs in zip(
        noisy.validation_images.tensors, clean.validation_images.tensors, strict=True
    ):
        assert torch.equal(ours, theirs)


def test_the_seed_draws_the_wrong_labels_apart_from_the_order():
    first, second = (DigitsDataModule(label_noise=0.3) for _ in range(2))
    assert torch.equal(first.train_images.tensors[1], second.train_images.tensors[1])
    assert not torch.equal(
        DigitsDataModule(seed=1, label_noise=0.3).wrong_labels, first.wrong_labels
    )
    # the order of the first epoch does not put the wrong labels together
    order = first.train_dataloader().sampler
    wrong = first.wrong_labels[list(order)]
    assert abs(wrong[: len(wrong) // 3].float().mean() - 0.3) < 0.06


def test_trusted_images_have_right_labels_and_are_not_trained_on():
    whole, data = DigitsDataModule(), DigitsDataModule(label_noise=1.0, trusted_fraction=0.1)
    images, labels = everything(data.trusted_dataloader())
    trained, _ = everything(data.train_dataloader())
    assert len(images) == round(0.1 * len(whole.train_images))
    assert len(images) + len(trained) == len(whole.train_images)

    def rows(images: torch.Tensor) -> list[tuple[float, ...]]:
        return [tuple(each.flatten().tolist()) for each in images]

    first, second = whole.train_images.tensors
    right = dict(zip(rows(first), second.tolist(), strict=True))
    assert [right[row] for row in rows(images)] == labels.tolist()
    assert not set(rows(images)) & set(rows(trained))
    assert set(labels.tolist()) == set(range(10))
    with pytest.raises(ValueError, match="trusted_fraction is 0.0; set it to a share"):
        whole.trusted_dataloader()


def test_training_images_may_be_of_some_digits_only():
    whole, some = DigitsDataModule(), DigitsDataModule(train_classes=[7, 2])
    images, labels = whole.train_images.tensors
    kept = (labels == 2) | (labels == 7)
    assert torch.equal(some.train_images.tensors[0], images[kept])
    assert set(some.train_images.tensors[1].tolist()) == {2, 7}
    assert torch.equal(some.validation_images.tensors[1], whole.validation_images.tensors[1])
