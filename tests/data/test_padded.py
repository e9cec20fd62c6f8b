"""Validation on ranks that do not divide the samples evenly: every sample is counted once.

Run as a script, so that Lightning can start processes, it validates on two ranks.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DistributedSampler

from kdlight import DistillationModule, SingleInput
from kdlight.data import DigitsDataModule, TextDataModule
from kdlight.data.padded import PaddedToWorldSize
from kdlight.distributed import FSDP2Strategy
from kdlight.models.digits import TinyNet
from kdlight.objectives import ForwardKL
from tests.support import toy
from tests.support.forked_ranks import run_forked

CASES = {"digits ddp": "ddp", "text ddp": "ddp", "text fsdp2": "fsdp2"}


def digits() -> tuple[DistillationModule, DigitsDataModule]:
    """271 images, 136 for one rank and 135 for the other."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student, teacher = SingleInput(TinyNet()), SingleInput(TinyNet())
    module = DistillationModule(student=student, teacher=teacher, objective=ForwardKL())
    return module, DigitsDataModule(eval_batch_size=50, validation_fraction=0.1505)


def text(folder: Path) -> tuple[DistillationModule, TextDataModule]:
    """Five batches of one block; the last batch of the second rank is padding."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    signs = {sign: i for i, sign in enumerate(["<end>", "<unknown>", *"abcdefghi"])}
    backend = Tokenizer(models.WordLevel(signs, unk_token="<unknown>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    for name, length in (("train", 40), ("validation", 38)):
        (folder / f"{name}.txt").write_text(("abcdefghi" * length)[: length - 1])
    data = TextDataModule(
        tokenizer,
        str(folder / "train.txt"),
        validation_files=str(folder / "validation.txt"),
        block_size=8,
        eval_batch_size=1,
    )
    return toy.module(dtype="float64"), data


def parts(name: str, folder: Path) -> tuple[DistillationModule, LightningDataModule]:
    return digits() if name.startswith("digits") else text(folder)


def validate(name: str, folder: Path, **options: Any) -> dict[str, float]:
    module, data = parts(name, folder)
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    return trainer.validate(module, data, verbose=False)[0]  # type: ignore[return-value]


class Ranks(NamedTuple):
    """The attribute of a trainer that a data module reads."""

    distributed_sampler_kwargs: dict[str, int]


@given(st.integers(1, 9), st.integers(1, 4))
def test_ranks_share_all_samples_and_nothing_else_counts(count: int, ranks: int) -> None:
    data = PaddedToWorldSize([(torch.ones(1), torch.tensor(i)) for i in range(count)], ranks=ranks)
    samplers = [DistributedSampler(data, ranks, rank, shuffle=False) for rank in range(ranks)]
    seen = [[int(data[index][1]) for index in sampler] for sampler in samplers]
    assert len({len(each) for each in seen}) == 1
    counted = [label for each in seen for label in each if label != -100]
    assert sorted(counted) == list(range(count))
    assert len(data) - count < ranks


def test_one_process_sees_the_data_as_they_are() -> None:
    data = PaddedToWorldSize(toy.Ragged(3), ranks=1)
    assert len(data) == 3
    assert torch.equal(data[2]["input_ids"], toy.Ragged(3)[2]["input_ids"])
    with pytest.raises(IndexError):
        data[3]


def test_what_fills_up_is_a_sample_without_labels() -> None:
    data = PaddedToWorldSize(toy.Ragged(3, silent=[]), ranks=2)
    assert torch.equal(data[3]["input_ids"], data[0]["input_ids"])
    assert data[3]["labels"].eq(-100).all()
    assert data[0]["labels"].ne(-100).all()


@pytest.mark.parametrize(
    "sample", [{"x": torch.ones(2)}, torch.ones(2), (torch.ones(2),)], ids=range(3)
)
def test_samples_without_labels_must_divide_evenly(sample: Any) -> None:
    even = PaddedToWorldSize([sample] * 4, ranks=2)
    assert [even[index] is sample for index in range(len(even))] == [True] * 4
    with pytest.raises(ValueError, match="3 samples do not divide evenly among 2 ranks"):
        PaddedToWorldSize([sample] * 3, ranks=2)[3]
    with pytest.raises(ValueError, match="ranks must be at least 1, got 0"):
        PaddedToWorldSize([sample], ranks=0)


@pytest.mark.parametrize(("name", "count"), [("digits", 271), ("text", 5)])
def test_the_ranks_of_a_data_module(name: str, count: int, tmp_path: Path) -> None:
    def labels(rank: int, ranks: int) -> list[Tensor]:
        _, data = parts(name, tmp_path)
        data.trainer = cast(Trainer, Ranks({"num_replicas": ranks, "rank": rank}))
        loader = data.val_dataloader()
        sampler = DistributedSampler(loader.dataset, ranks, rank, shuffle=False)
        rows = [loader.dataset[index] for index in sampler]
        return [row["labels"] if name == "text" else row[1] for row in rows]

    halves, whole = [labels(rank, 2) for rank in range(2)], labels(0, 1)
    assert [len(half) for half in halves] == [(count + 1) // 2] * 2
    assert len(whole) == count
    assert halves[1][-1].eq(-100).all()
    dealt = [row for pair in zip(*halves, strict=True) for row in pair][:count]
    assert all(map(torch.equal, dealt, whole))


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    folder = tmp_path_factory.mktemp("ranks")
    assert "count twice" not in run_forked("tests.data.test_padded", str(folder))
    return json.loads((folder / "0.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_ranks_measure_what_one_process_does(
    name: str, on_ranks: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    with isolate_rng():
        alone = validate(name, tmp_path)
    assert on_ranks[name] == pytest.approx(alone, rel=1e-6)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    strategies = {"ddp": lambda: "ddp", "fsdp2": FSDP2Strategy}
    results = {
        name: validate(name, folder, devices=2, strategy=strategies[strategy]())
        for name, strategy in CASES.items()
    }
    (folder / f"{os.environ.get('LOCAL_RANK', 0)}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
