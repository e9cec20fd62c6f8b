"""A cached transformers model answers like the live one, in batches of any order and padding."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import CachedTeacher, CausalLM, FrozenTeacher, SingleInput
from kdlight.cache import cache_teacher
from kdlight.data.teacher_tokens import TeacherTokens
from tests.support import toy

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")

V = 41
SIZES = {
    "vocab_size": V,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}


def gpt2() -> Any:
    config = transformers.GPT2Config(vocab_size=V, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    return CausalLM.wrap(transformers.GPT2LMHeadModel(config))


def bert() -> Any:
    return transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))


def t5() -> Any:
    config = transformers.T5Config(
        vocab_size=V, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, pad_token_id=0,
        decoder_start_token_id=0, initializer_factor=8.0,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)


def classifier() -> Any:
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES))


def segmenter() -> Any:
    return SingleInput(nn.Conv2d(3, 5, 3, padding=1), key="pixel_values", class_dim=1)


def two_tokenizers() -> Any:
    return TeacherTokens(gpt2())


Row = dict[str, Tensor]


def token_rows(*, labels: Callable[[Tensor], Tensor]) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(2, V, (n,), generator=generator) for n in (5, 3, 6, 4, 6, 2)]
    rows.append(rows[0][:-1])  # a row that another one begins with
    return [{"input_ids": row, "labels": labels(row)} for row in rows]


def half(row: Tensor) -> Tensor:
    """Labels at every other token."""
    return row.roll(1).masked_fill(torch.arange(len(row)) % 2 == 0, -100)


def sequences() -> list[Row]:
    """Rows of an encoder-decoder: the same source with several targets, and other lengths."""
    rows = token_rows(labels=lambda row: row.flip(0)[: len(row) - 1])
    return [*rows, {**rows[0], "labels": rows[1]["labels"]}]


def images() -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (4, 6, 6), generator=generator)
    labels[1, 2:] = -100
    pixels = torch.randn(4, 3, 6, 6, generator=generator)
    return [{"pixel_values": x, "labels": y} for x, y in zip(pixels, labels, strict=True)]


def own_tokens() -> list[Row]:
    rows = token_rows(labels=torch.clone)
    return [
        {
            **row,
            "teacher_input_ids": other["input_ids"],
            "teacher_mask": torch.ones(len(other["input_ids"]), dtype=torch.bool),
        }
        for row, other in zip(rows, rows[::-1], strict=True)
    ]


FAMILIES: dict[str, Any] = {
    "causal": (gpt2, token_rows(labels=torch.clone), "auto"),
    "masked": (bert, token_rows(labels=half), "auto"),
    "encoder-decoder": (t5, sequences(), "auto"),
    "classifier": (
        classifier, token_rows(labels=lambda row: torch.tensor(len(row) % 2)), "auto",
    ),
    "classifier without labels": (
        classifier, [{"input_ids": r["input_ids"]} for r in token_rows(labels=half)], "none",
    ),
    "maps": (segmenter, images(), "auto"),
    "own tokens of the teacher": (two_tokenizers, own_tokens(), "causal"),
}  # fmt: skip


def collate(rows: list[Row], *, left: bool = False, longer: int = 0) -> dict[str, Tensor]:
    """Pad rows; the decoder's labels are padded on the right in any case."""
    batch = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if values[0].dim() != 1:
            batch[name] = torch.stack(values)
            continue
        width = max(map(len, values)) + longer
        fill = -100 if name == "labels" else 0
        out = torch.full((len(rows), width), fill, dtype=values[0].dtype)
        on_left = left and len(values[0]) == len(rows[0]["input_ids"])
        for line, value in zip(out, values, strict=True):
            line[width - len(value) :] = value if on_left else line[width - len(value) :]
            if not on_left:
                line[: len(value)] = value
        batch[name] = out
        if name.endswith("input_ids"):
            mask = name.replace("input_ids", "attention_mask")
            lengths = torch.tensor([len(value) for value in values])[:, None]
            column = torch.arange(width)
            batch[mask] = (column >= width - lengths if on_left else column < lengths).long()
    return batch


# classifiers and encoder-decoders do not answer alike on both sides, see the next test
SIDES = [(family, False) for family in FAMILIES] + [("causal", True), ("masked", True)]


@pytest.mark.parametrize(("family", "left"), SIDES)
def test_a_cached_model_is_the_live_one(family: str, left: bool, tmp_path: Path) -> None:
    make, rows, rule = FAMILIES[family]
    torch.manual_seed(0)
    live = FrozenTeacher(make())
    written: Any = [collate(rows[:3]), collate(rows[3:])]
    quiet = toy.trainer(tmp_path)
    cached = cache_teacher(
        live, written, str(tmp_path / "cache"), k=None, bits=32, labels=rule, trainer=quiet
    )
    shuffled = rows[::-1]
    for part in (shuffled[:3], shuffled[3:], *([row] for row in rows)):
        batch = collate(part, left=left, longer=2 if family != "maps" else 0)
        assert_same(cached, live, batch)


def assert_same(cached: CachedTeacher, live: FrozenTeacher, batch: dict[str, Tensor]) -> None:
    got, expected = cached(batch).logits(), live(batch).logits().float().log_softmax(-1)
    assert got.shape == expected.shape
    valid = cached.manifest.layout.valid_positions(batch)
    valid = ~got.isnan().any(-1) if valid is None else valid
    assert valid.any()
    torch.testing.assert_close(got[valid], expected[valid], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["classifier", "classifier without labels", "encoder-decoder"])
def test_other_padding_is_refused_where_the_answer_would_be_another(
    family: str, tmp_path: Path
) -> None:
    make, rows, rule = FAMILIES[family]
    cached = cache_teacher(
        FrozenTeacher(make()), [collate(rows)], str(tmp_path / "cache"), labels=rule,
        trainer=toy.trainer(tmp_path),
    )  # fmt: skip
    with pytest.raises(ValueError, match="rows of this batch are not in the cache"):
        cached(collate(rows, left=True, longer=2))
