"""Text: every token once, no text on both sides, an order that can be entered anywhere."""

from __future__ import annotations

import json
import string
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from kdlight.data import (
    Blocks,
    TextDataModule,
    batch_labels,
    next_token_labels,
    read_documents,
)
from kdlight.data.loaders import EpochSampler, ResumableLoader
from kdlight.data.packing import encode, split_documents

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")


@pytest.fixture(scope="module")
def tokenizer():
    """One token a character, 0 at the end of a text."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    vocabulary = {"<end>": 0, "<unknown>": 1}
    vocabulary.update({sign: index for index, sign in enumerate(string.printable, start=2)})
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """40 documents, each with a word of its own."""
    rows = [f"document {index} " + f"word{index} " * (index % 7 + 1) for index in range(40)]
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": row}) for row in rows))
    return [str(tmp_path / "text.jsonl")]


def texts(blocks: Blocks, tokenizer) -> list[str]:
    """The documents that blocks were made of, read back from their labels."""
    ids = torch.cat([blocks[index]["labels"] for index in range(len(blocks))])
    signs = tokenizer.convert_ids_to_tokens(ids[ids != -100].tolist())
    return "".join(signs).split("<end>")[:-1]


# ---- labels


@given(st.integers(1, 3), st.integers(1, 6))
def test_a_label_is_the_next_token(batch, length):
    ids = torch.arange(batch * length).view(batch, length)
    labels = next_token_labels(ids)
    assert torch.equal(labels[:, :-1], ids[:, 1:])
    assert (labels[:, -1] == -100).all()


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_labels_are_those_of_hugging_face(padding_side):
    config = transformers.LlamaConfig(
        vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    ids = torch.randint(11, (3, 7))
    mask = torch.ones_like(ids)
    mask[1, slice(None, 3) if padding_side == "left" else slice(4, None)] = 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[0, :3] = -100  # a prompt that is not trained on
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    output = model(**batch)
    aligned = batch_labels(batch)
    # Hugging Face counts the first token after left padding, which is predicted from padding alone
    expected = nn.functional.cross_entropy(
        output.logits[:, :-1].flatten(0, 1),
        labels[:, 1:].masked_fill(mask[:, :-1] == 0, -100).flatten(),
    )
    if padding_side == "right":
        torch.testing.assert_close(expected, output.loss)
    torch.testing.assert_close(
        nn.functional.cross_entropy(output.logits.flatten(0, 1), aligned.flatten()), expected
    )


def test_labels_of_other_batches():
    x, y = torch.zeros(2, 3), torch.tensor([1, 0])
    assert batch_labels((x, y)) is y
    assert batch_labels([x, y]) is y
    assert batch_labels({"pixel_values": x, "labels": y}) is y
    assert batch_labels({"input_ids": x.long(), "labels": y}) is y  # a classifier of sequences
    ids = torch.tensor([[3, 4, 5]])
    assert batch_labels({"input_ids": ids}).tolist() == [[4, 5, -100]]
    assert ids.tolist() == [[3, 4, 5]]


@pytest.mark.parametrize("batch", [torch.zeros(2), (torch.zeros(2),), {"x": torch.zeros(2)}, None])
def test_a_batch_without_labels_says_what_to_override(batch):
    with pytest.raises(TypeError, match=r"override `labels\(batch\)`"):
        batch_labels(batch)


# ---- packing


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(2, 7))
def test_blocks_hold_every_token_once_and_in_order(lengths, block_size):
    documents = [torch.arange(length) + 100 * i for i, length in enumerate(lengths)]
    blocks = Blocks(documents, block_size=block_size, padding=7)
    samples = [blocks[index] for index in range(len(blocks))]
    assert all(len(sample["input_ids"]) == block_size for sample in samples)
    labels = torch.cat([sample["labels"] for sample in samples])
    ids = torch.cat([sample["input_ids"] for sample in samples])
    assert torch.equal(labels[labels != -100], torch.cat(documents))
    assert torch.equal(ids, labels.masked_fill(labels == -100, 7))
    assert blocks.tokens == sum(lengths)
    assert len(ids) - blocks.tokens < block_size


@given(st.lists(st.integers(1, 9), min_size=1), st.floats(0.05, 0.95))
def test_a_split_takes_no_document_more_than_it_must(lengths, fraction):
    documents = [torch.full((length,), index) for index, length in enumerate(lengths)]
    first, others = split_documents(documents, fraction=fraction)
    assert [d[0] for d in first + others] == list(range(len(lengths)))
    wanted = fraction * sum(lengths)
    assert sum(map(len, first)) >= wanted
    assert sum(map(len, first[:-1])) < wanted


def test_every_document_ends_with_the_end_of_text(tokenizer):
    documents = encode(["ab", "c", "de<end>"], tokenizer)
    assert [tokenizer.decode(ids).replace(" ", "") for ids in documents] == [
        "ab<end>",
        "c<end>",
        "de<end>",
    ]
    assert len(encode(["ab", "c", "de"], tokenizer, limit=4)) == 2


# ---- documents


def test_the_standard_library_has_english_without_a_download():
    documents = read_documents()
    assert len(documents) > 50
    assert len(set(documents)) == len(documents)
    assert sum(map(len, documents)) > 300_000


def test_files_of_every_kind(tmp_path):
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "b.txt").write_text("second\n\nsecond, still")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.jsonl").write_text(
        '{"body": "third\u2028third"}\n\n{"body": "first"}\n'
    )
    assert read_documents(str(tmp_path / "a.txt")) == ["first"]
    found = read_documents([f"{tmp_path}/*.txt", f"{tmp_path}/**/*.jsonl"], text_field="body")
    assert found == ["first", "second\n\nsecond, still", "third\u2028third"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "missing.txt does not exist"),
        ("no*.txt", None, "no file fits"),
        (".", None, "is a folder"),
        ("a.txt", b" \n", "a.txt is empty"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}', r"line 2 has no text .*'txt'.*text_field"),
        ("a.jsonl", b'{"text": 3}', "line 1 has no text"),
        ("a.jsonl", b"[1]", "line 1 has no text"),
        ("a.jsonl", b"{", "line 1 is not JSON"),
    ],
)
def test_files_that_hold_no_text(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_documents([str(tmp_path / name)])


def test_datasets_of_the_hub(monkeypatch):
    """The package is stood in for: its datasets come from the network."""

    class Rows(list):
        column_names = ("text",)

        def __getitem__(self, column):
            return [row[column] for row in self]

    asked = []

    class Datasets:
        @staticmethod
        def load_dataset(*arguments, **keywords):
            asked.append((*arguments, *keywords.values()))
            return Rows([{"text": "a"}, {"text": "b"}])

    monkeypatch.setitem(__import__("sys").modules, "datasets", Datasets)
    assert read_documents(["hf:name", "hf:owner/name/config:test[:9]"]) == ["a", "b"]
    assert asked == [("name", None, "train"), ("owner/name", "config", "test[:9]")]
    with pytest.raises(ValueError, match="no column 'body'"):
        read_documents("hf:name", text_field="body")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ValueError, match=r"kdlight\[data\]"):
        read_documents("hf:name")


# ---- the data module


def test_no_text_is_on_both_sides_and_none_is_lost(files, tokenizer):
    data = TextDataModule(tokenizer, files, block_size=16, validation_fraction=0.2)
    data.setup()
    train, held_out = texts(data.train_blocks, tokenizer), texts(data.validation_blocks, tokenizer)
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == sorted(read_documents(files))
    summary = data.summary
    assert summary["train_documents"] + summary["validation_documents"] == 40
    assert 0.15 < summary["validation_tokens"] / summary["train_tokens"] < 0.45
    assert summary["train_blocks"] == len(data.train_blocks)


def test_the_split_depends_on_the_seed_alone(files, tokenizer):
    def held_out(seed: int) -> list[str]:
        data = TextDataModule(tokenizer, files, block_size=16, seed=seed)
        data.setup()
        return texts(data.validation_blocks, tokenizer)

    first = held_out(0)
    torch.manual_seed(1)
    assert held_out(0) == first
    assert held_out(1) != first


def test_validation_files_are_kept_out_of_training(files, tokenizer, tmp_path):
    shared = read_documents(files)[3]
    (tmp_path / "held_out.txt").write_text(shared)
    data = TextDataModule(
        tokenizer, files, validation_files=str(tmp_path / "held_out.txt"), block_size=8
    )
    data.setup()
    assert texts(data.validation_blocks, tokenizer) == [shared]
    assert shared not in texts(data.train_blocks, tokenizer)
    assert data.summary["train_documents"] == 39


def test_fewer_tokens_can_be_asked_for(files, tokenizer):
    data = TextDataModule(tokenizer, files, block_size=16, max_tokens=300)
    summary = data.summary
    assert 300 <= summary["train_tokens"] + summary["validation_tokens"] < 400


def test_batches(files, tokenizer):
    data = TextDataModule(tokenizer, files, block_size=16, batch_size=3, eval_batch_size=5)
    batches = list(data.train_dataloader())
    assert sum(len(batch["input_ids"]) for batch in batches) == len(data.train_blocks)
    assert batches[0]["input_ids"].shape == batches[0]["labels"].shape == (3, 16)
    assert batches[0]["input_ids"].dtype == batches[0]["labels"].dtype == torch.long
    assert next(iter(data.val_dataloader()))["input_ids"].shape == (5, 16)
    for ours, theirs in zip(data.val_dataloader(), data.test_dataloader(), strict=True):
        assert torch.equal(ours["labels"], theirs["labels"])


def test_no_random_number_is_taken_from_the_model(files, tokenizer):
    before = torch.get_rng_state()
    data = TextDataModule(tokenizer, files, block_size=16)
    list(data.train_dataloader())
    list(data.val_dataloader())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "wrong",
    [
        {"block_size": 1},
        {"validation_fraction": 0.0},
        {"batch_size": 0},
        {"eval_batch_size": 0},
        {"max_tokens": 5},
    ],
)
def test_arguments_out_of_range(tokenizer, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TextDataModule(tokenizer, **wrong)


def test_text_that_is_too_short_says_so(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("too short")
    (tmp_path / "b.txt").write_text("long enough to be a block of its own")
    one = TextDataModule(tokenizer, [f"{tmp_path}/b.txt"], block_size=16)
    with pytest.raises(ValueError, match="0 tokens in 0 documents for training.*validation_files"):
        one.setup()
    short = TextDataModule(
        tokenizer, [f"{tmp_path}/b.txt"], validation_files=[f"{tmp_path}/a.txt"], block_size=16
    )
    with pytest.raises(ValueError, match="10 tokens in 1 documents for validation"):
        short.setup()


def test_a_tokenizer_without_an_end_of_text(tmp_path):
    class Endless:
        eos_token_id = None

        def __call__(self, texts):
            raise AssertionError("never asked")

    with pytest.raises(ValueError, match="no end-of-text"):
        TextDataModule(Endless(), block_size=16).setup()


# ---- the order of an epoch


def test_an_epoch_is_a_permutation_of_its_own():
    sampler = EpochSampler(50, seed=0)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert sorted(orders[0]) == list(range(50))
    assert orders[0] == orders[2] != orders[1]
    assert list(EpochSampler(50, seed=1)) != orders[1]


class Recorder(LightningModule):
    """Writes down what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch["input_ids"][:, 0].tolist()))
        return self.weight * 1.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Numbered(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index):
        return {"input_ids": torch.tensor([index])}


def run(folder: Path, *, max_steps: int, limit: float = 1.0, resume: str | None = None) -> Recorder:
    module = Recorder()
    loader = ResumableLoader(Numbered(), batch_size=2, sampler=EpochSampler(10, seed=0))
    trainer = Trainer(
        max_steps=max_steps,
        limit_train_batches=limit,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[
            ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        ],
    )
    trainer.fit(module, loader, ckpt_path=resume)
    return module


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:Checkpoint directory")
@pytest.mark.parametrize("limit", [1.0, 3])
def test_a_resumed_run_sees_what_was_left(tmp_path, limit):
    """Interrupted after every step in turn: within an epoch, at its end, in a later one."""
    whole = run(tmp_path / "whole", max_steps=12, limit=limit).seen
    assert len({tuple(batch) for _, batch in whole}) > 5  # epochs do not repeat each other
    for stop in range(1, 12):
        checkpoint = str(tmp_path / "whole" / f"step={stop}.ckpt")
        rest = run(tmp_path / f"rest{stop}", max_steps=12, limit=limit, resume=checkpoint).seen
        assert rest == whole[stop:], f"interrupted after step {stop}"


def test_processes_share_an_epoch():
    from lightning.fabric.utilities.distributed import DistributedSamplerWrapper

    def shares(epoch: int) -> list[list[int]]:
        result = []
        for rank in range(2):
            sampler = DistributedSamplerWrapper(
                EpochSampler(10, seed=0), num_replicas=2, rank=rank, shuffle=False
            )
            sampler.set_epoch(epoch)
            result.append(list(sampler))
        return result

    assert sorted(sum(shares(0), [])) == list(range(10))
    assert shares(0) != shares(1)
