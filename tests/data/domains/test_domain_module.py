"""Blocks of text of several domains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight.data import DomainDataModule, TextDataModule
from tests.support import tiny_lm
from tests.support.domain_fit import BLOCK, SIGNS, data, write_domains


def test_blocks_are_those_of_a_text_data_module_of_each_domain(tmp_path: Path) -> None:
    domains = data(tmp_path)
    train, validation = domains.parts
    held_out = validation.dataset  # the blocks before they are mixed
    assert sorted(validation.indices) == list(range(len(held_out)))
    assert validation.indices != sorted(validation.indices)
    start = [0, 0]
    for name, files in write_domains(tmp_path).items():
        alone = TextDataModule(
            tiny_lm.tokenizer(), files, block_size=BLOCK, validation_fraction=0.2, seed=1
        )
        for number, (part, blocks) in enumerate(zip((train, held_out), alone.parts, strict=True)):
            for block in blocks:
                assert torch.equal(part[start[number]]["input_ids"], block["input_ids"])
                start[number] += 1
        assert domains.summary[name] == alone.summary
    assert start == [len(train), len(held_out)]


def test_a_batch_is_drawn_and_a_validation_has_each_block_once(tmp_path: Path) -> None:
    domains = data(tmp_path)
    loader = domains.train_dataloader()
    batch = next(iter(loader))
    assert batch["input_ids"].shape == batch["labels"].shape == (4, BLOCK)
    assert loader.sampler is domains.sampler
    assert len(loader) == -(-len(domains.parts[0]) // 4)
    seen = torch.cat([each["input_ids"] for each in domains.val_dataloader()])
    assert torch.equal(seen, torch.stack([each["input_ids"] for each in domains.parts[1]]))


def test_validation_blocks_of_each_domain(tmp_path: Path) -> None:
    domains = data(tmp_path)
    tokenizer = domains.tokenizer
    for samples in (3, 500):
        loaders = domains.domain_dataloaders(samples)
        assert list(loaders) == domains.names == list(SIGNS)
        for name, loader in loaders.items():
            rows = torch.cat([each["input_ids"] for each in loader])
            assert len(rows) == min(samples, domains.summary[name]["validation_blocks"])
            text = tokenizer.decode(rows.flatten().tolist(), skip_special_tokens=True)
            assert set(text) <= set(SIGNS[name])


def test_tokens_of_blocks_are_those_with_labels(tmp_path: Path) -> None:
    domains = data(tmp_path)
    counted = [int((block["labels"] != -100).sum()) for block in domains.parts[0]]
    assert domains.tokens_of_blocks.tolist() == counted
    assert min(counted) < BLOCK  # the last block of a domain has padding


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("uniform", [1 / 3] * 3),
        ("proportional", None),
        ({"signs": 0.5, "letters": 0.25, "digits": 0.25}, [0.25, 0.25, 0.5]),
    ],
)
def test_the_weights_of_the_beginning(weights: Any, expected: Any, tmp_path: Path) -> None:
    domains = data(tmp_path, weights=weights)
    sizes = [each["train_blocks"] for each in domains.summary.values()]
    expected = expected or [size / sum(sizes) for size in sizes]
    assert domains.sampler.weights == pytest.approx(expected)
    domains.sampler.set_weights([1.0, 0.0, 0.0], draw=5)
    domains.restart()
    assert len(domains.sampler.draws.plan) == 1
    assert domains.sampler.weights == pytest.approx(expected)


def test_the_state_is_the_plan_of_the_sampler(tmp_path: Path) -> None:
    domains, again = (data(tmp_path / name) for name in "ab")
    assert domains.state_dict() == {}
    domains.sampler.set_weights([0.5, 0.25, 0.25], draw=8)
    again.load_state_dict(domains.state_dict())
    assert list(again.sampler) == list(domains.sampler)
    again.load_state_dict({})
    assert again.sampler.weights == [0.5, 0.25, 0.25]


def test_an_empty_domain_is_named(tmp_path: Path) -> None:
    files = write_domains(tmp_path)
    (tmp_path / "few.txt").write_text("few words")
    for wrong, message in (
        (str(tmp_path / "none" / "*.txt"), "domain 'wrong': files: no file matches"),
        (str(tmp_path / "few.txt"), "domain 'wrong': .*leave 0 tokens in 0 documents"),
        ("package:json/*.txt", "domain 'wrong': files: no file of the package matches"),
    ):
        domains = DomainDataModule(tiny_lm.tokenizer(), {**files, "wrong": wrong}, block_size=BLOCK)
        with pytest.raises(ValueError, match=message):
            domains.setup("fit")


def test_one_domain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two or more domains"):
        DomainDataModule(tiny_lm.tokenizer(), {"letters": write_domains(tmp_path)["letters"]})


def test_domains_of_the_standard_library() -> None:
    domains = DomainDataModule(
        tiny_lm.tokenizer(),
        {"help": None, "code": "package:asyncio/*.py", "tables": "package:encodings/cp*.py"},
        max_tokens=60_000,
    )
    summary = domains.summary
    assert all(each["train_blocks"] > 100 for each in summary.values())
    assert all(each["validation_documents"] >= 1 for each in summary.values())
