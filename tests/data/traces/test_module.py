"""Samples, batches and splits of the data module of traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from transformers import AutoModelForCausalLM, GPT2Config

from kdlight import CausalLM, DistillationModule
from kdlight.data import TracesDataModule, batch_labels
from kdlight.data.traces import Trace, length_control, write_traces
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.support import tiny_lm, toy


def data(folder: Path, traces: list[Trace], **options: Any) -> TracesDataModule:
    path = folder / "traces.jsonl"
    write_traces(path, traces)
    return TracesDataModule(
        tiny_lm.tokenizer(), str(path), **{"validation_fraction": 0.0, **options}
    )


def only(traces: list[Trace], folder: Path, **options: Any) -> list[dict[str, torch.Tensor]]:
    rows = data(folder, traces, **options).train_rows
    return [rows[index] for index in range(len(rows))]


def text(ids: Any) -> str:
    return tiny_lm.tokenizer().decode([int(i) for i in ids if i != -100])


MANY = [
    Trace("one", "yes", score=1.0),
    Trace("one", "yep", score=1.0),
    Trace("one", "nope", score=0.0),
    Trace("one", "never", score=0.5),
    Trace("two", "right", score=1.0),
    Trace("three", "wrong", score=0.0),
]


@pytest.mark.parametrize(
    ("kind", "per_prompt", "expected"),
    [
        ("positives", 1, [["yes"], ["right"]]),
        ("positives", None, [["yes"], ["yep"], ["right"]]),
        ("pairs", 1, [["yes", "nope"]]),
        ("pairs", None, [["yes", "nope"], ["yep", "never"]]),
        ("unpaired", 1, [["yes"], ["nope"], ["right"], ["wrong"]]),
        ("unpaired", None, [["yes"], ["yep"], ["nope"], ["never"], ["right"], ["wrong"]]),
    ],
)
def test_kinds_of_samples(kind: Any, per_prompt: Any, expected: Any, tmp_path: Path) -> None:
    samples = only(MANY, tmp_path, kind=kind, per_prompt=per_prompt)
    found = [[text(row).removesuffix("<end>") for row in sample["labels"]] for sample in samples]
    assert found == expected
    wrong = {trace.response for trace in MANY if trace.score != 1}
    for sample, responses in zip(samples, found, strict=True):
        assert ("rejected" in sample) == (kind != "positives")
        if "rejected" in sample:
            assert sample["rejected"].tolist() == [each in wrong for each in responses]


def test_labels_of_a_batch_are_valid_on_responses_only(tmp_path: Path) -> None:
    module = data(tmp_path, MANY, kind="unpaired", batch_size=6)
    (batch,) = module.train_dataloader()
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    labels = batch_labels(batch)
    assert labels is not None
    for ids, mask, aligned in zip(batch["input_ids"], batch["attention_mask"], labels, strict=True):
        whole = text(ids[mask.bool()])
        scored = text(aligned)
        assert whole.endswith(scored)
        assert scored.endswith("<end>")
        # the first token of the response is scored at the last one of the prompt
        first = (aligned != -100).nonzero()[0, 0]
        assert text(ids[: first + 1]) + scored == whole


def test_limits_cut_chosen_traces_and_drop_rejected_ones(tmp_path: Path) -> None:
    traces = [
        Trace("1", "abcdef", score=1.0),
        Trace("2", "abcdef", score=0.0),
        Trace("3", "abc", score=0.0),
        Trace("a long prompt", "a", score=1.0),
    ]
    module = data(tmp_path, traces, kind="unpaired", max_length=6)
    rows = [text(module.train_rows[i]["labels"][0]) for i in range(len(module.train_rows))]
    assert rows == ["abcde", "abc<end>"]
    assert {k: v for k, v in module.summary.items() if k.startswith("training")} == {
        "training: kept": 1,
        "training: kept, cut at the end": 1,
        "training: prompt too long": 1,
        "training: rejected and would be cut": 1,
        "training: unpaired": 2,
    }
    assert sum(v for k, v in module.summary.items() if "training" in k) - 2 == len(traces)
    short = only(traces, tmp_path, kind="unpaired", max_completion=4, max_prompt=2)
    assert [text(sample["labels"][0]) for sample in short] == ["abc<end>"]


def test_shared_prefix_and_end_of_a_rejected_response_can_be_ignored(tmp_path: Path) -> None:
    pair = [Trace("q", "so 4", score=1.0), Trace("q", "so 51", score=0.0)]
    options = {"mask_shared_prefix": True, "mask_end": True}
    (sample,) = only(pair, tmp_path, kind="pairs", **options)
    assert [text(row) for row in sample["labels"]] == ["so 4<end>", "51"]


def test_an_unfinished_response_has_no_end_to_ignore(tmp_path: Path) -> None:
    pair = [Trace("q", "so 4", score=1.0), Trace("q", "so 51", score=0.0, finished=False)]
    (sample,) = only(pair, tmp_path, kind="pairs", mask_end=True)
    assert [text(row) for row in sample["labels"]] == ["so 4<end>", "so 51"]


def test_prompts_are_never_divided_and_order_does_not_matter(tmp_path: Path) -> None:
    traces = [Trace(f"p{i % 20}", f"r{i}", score=1.0) for i in range(60)]
    options = {"validation_fraction": 0.25, "per_prompt": None}
    first = data(tmp_path, traces, **options)
    sides = [
        {sample[0].prompt_id for sample in part.samples}
        for part in (first.train_rows, first.validation_rows)
    ]
    assert len(sides[1]) == 5
    assert not sides[0] & sides[1]
    second = data(tmp_path, traces[::-1], **options)
    assert {sample[0].prompt_id for sample in second.validation_rows.samples} == sides[1]


def test_a_selection_comes_before_the_split(tmp_path: Path) -> None:
    module = data(tmp_path, MANY, select=lambda traces: traces[:1])
    assert len(module.train_rows) == 1
    assert module.summary["selected"] == 1


CHAINS = [Trace(f"p{i}", "x" * n, score=1.0) for i in range(4) for n in (9, 3, 6, 1)]


def test_all_that_an_operator_selects_is_used(tmp_path: Path) -> None:
    select: Any = [{"length_control": {"long": "L", "short": "S"}}]
    module = data(tmp_path, CHAINS, select=select)
    marked = {text(module.train_rows[i]["input_ids"][0])[:1] for i in range(8)}
    assert marked == {"L", "S"}
    assert module.summary["training: positives"] == module.summary["selected"] == 8
    assert len(data(tmp_path, CHAINS).train_rows) == 4  # one per prompt, where nothing selects
    one = data(tmp_path, CHAINS, select=["verified_rejection"], per_prompt=1)
    assert len(one.train_rows) == 4
    assert one.summary["training: encoded, but not used for positives"] == 12


def test_a_file_of_marked_prompts_is_used_as_a_selection_is(tmp_path: Path) -> None:
    """The markers are two prompts, of each of which one sample is used."""
    marked = length_control(CHAINS)
    assert len(data(tmp_path, marked).train_rows) == 8
    assert len(data(tmp_path, [*marked, *marked]).train_rows) == 8


@pytest.mark.parametrize("options", [{"validation_fraction": 0.05}, {"validation_files": "SAME"}])
def test_nothing_left_for_training_is_told(options: Any, tmp_path: Path) -> None:
    if "validation_files" in options:
        options = {"validation_files": str(tmp_path / "traces.jsonl")}
    message = "of 4 traces all are of prompts to validate on, or select keeps none"
    with pytest.raises(ValueError, match=message):
        data(tmp_path, CHAINS[:4], **options).setup()


def test_an_operator_is_checked_before_files_are_read() -> None:
    with pytest.raises(ValueError, match="select: operator 1, 'joint_rank': keep must be"):
        TracesDataModule("nowhere", "nothing.jsonl", select=[{"joint_rank": {"keep": 2}}])


def test_a_table_tells_what_each_operator_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        data(tmp_path, CHAINS, select=["length_control"]).setup()
    assert "length_control    16     8        8  neither long nor short: 8" in caplog.text


def test_a_curriculum_serves_one_length_per_epoch(tmp_path: Path) -> None:
    module = data(tmp_path, CHAINS, curriculum="long_to_short", batch_size=4)
    loader = module.train_dataloader()
    seen = []
    for epoch in range(6):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        (batch,) = loader
        seen.append({len(text(row)) - len("<end>") for row in batch["labels"]})
    assert seen == [{9}, {6}, {3}, {1}, {1}, {1}]


@pytest.mark.parametrize("options", [{"kind": "pairs"}, {"per_prompt": 2}])
def test_a_curriculum_of_other_samples_is_refused(options: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="curriculum='long_to_short' orders all chosen responses"):
        data(tmp_path, CHAINS, curriculum="long_to_short", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "both"}, "kind must be one of"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be in \[0, 1\)"),
        ({"per_prompt": 0}, "per_prompt must be at least 1"),
        ({"max_length": 1}, "max_length must be at least 2"),
    ],
)
def test_bad_arguments_are_named(options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        data(tmp_path, MANY, **options)


def test_no_pairs_is_an_error_that_counts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no pairs for training: of 1 traces 0 are rejected"):
        data(tmp_path, MANY[:1], kind="pairs").setup()


@pytest.mark.parametrize("short", ["student", "teacher"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_trace_longer_than_a_context_is_refused(short: str, split: str, tmp_path: Path) -> None:
    traces = [Trace(f"p{i}", "x" * 40, score=1.0) for i in range(4)]
    module = data(tmp_path, traces, validation_fraction=0.5, batch_size=2)
    networks: dict[str, Any] = {
        name: gpt2(16 if name == short else 64) for name in ("student", "teacher")
    }
    run = DistillationModule(objective=ForwardKL(), **networks)
    trainer = toy.trainer(tmp_path)
    start = trainer.fit if split == "train" else trainer.validate
    message = f"longest trace has 43 tokens, .* context of the {short} is 16; set max_length to 16"
    with pytest.raises(ValueError, match=message):
        start(run, datamodule=module)
    with pytest.raises(ValueError, match=message):  # and again, though the data are loaded
        start(run, datamodule=module)


def gpt2(context: int) -> CausalLM:
    config = GPT2Config(vocab_size=102, n_embd=8, n_layer=1, n_head=2, n_positions=context)
    return CausalLM.wrap(AutoModelForCausalLM.from_config(config))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"seed": 2**70}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"num_workers": -1}, "num_workers"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"validation_fraction": -0.1}, "validation_fraction"),
        ({"validation_fraction": "0.1"}, "validation_fraction"),
        ({"validation_kind": "all"}, "validation_kind"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": "0.9"}, "threshold"),
        ({"per_prompt": 1.5}, "per_prompt"),
        ({"max_completion": 2.5}, "max_completion"),
        ({"max_prompt": 0}, "max_prompt"),
        ({"chat": "yes"}, "chat"),
        ({"select": 5}, "select"),
        ({"curriculum": "longest"}, "curriculum"),
        ({"files": 5}, "files"),
        ({"files": []}, "files"),
        ({"validation_files": [5]}, "validation_files"),
        ({"tokenizer": 5}, "tokenizer"),
    ],
    ids=range(20),
)
def test_arguments_of_another_kind_are_refused(options: Any, name: str) -> None:
    arguments = {"tokenizer": tiny_lm.tokenizer(), "files": "traces.jsonl", **options}
    with pytest.raises((TypeError, ValueError), match=f"^{name} must "):
        TracesDataModule(**arguments)


def talk(turn: str, *, error: bool = False) -> list[dict[str, str]]:
    result = "error" if error else "3"
    return [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": turn},
        {"role": "tool", "content": result},
    ]


@pytest.mark.parametrize("chat", [False, True])
def test_the_loss_is_on_all_turns_of_the_assistant_or_on_the_response(
    chat: bool, tmp_path: Path
) -> None:
    write_traces(tmp_path / "t.jsonl", [Trace(talk("act"), "so 3", score=1.0)])
    for loss_on, scored in (("response", ["so 3"]), ("assistant", ["act", "so 3"])):
        module = TracesDataModule(
            tiny_lm.tokenizer(chat=chat),
            str(tmp_path / "t.jsonl"),
            loss_on=loss_on,  # type: ignore[arg-type]
            validation_fraction=0.0,
        )
        (sample,) = module.train_rows
        between = "<end>" if chat else "\n"
        assert text(sample["labels"][0]) == between.join(scored) + "<end>"
        whole = text(sample["input_ids"][0])
        assert ("<|tool|>3<end>" if chat else "3") in whole
    with pytest.raises(ValueError, match="loss_on must be one of 'response', 'assistant'"):
        TracesDataModule(tiny_lm.tokenizer(), "t.jsonl", loss_on="all")  # type: ignore[arg-type]


def test_trajectories_make_pairs_with_their_masks(tmp_path: Path) -> None:
    traces = [
        Trace(talk("act"), "so 3", prompt_id="p", score=1.0),
        Trace(talk("act", error=True), "no", prompt_id="p", score=0.0),
    ]
    options = {"kind": "pairs", "loss_on": "assistant"}
    (sample,) = only(traces, tmp_path, **options)
    assert [text(row) for row in sample["labels"]] == ["act\nso 3<end>", "act\nno<end>"]
    (sample,) = only(traces, tmp_path, **options, mask_end=True)
    assert [text(row) for row in sample["labels"]] == ["act\nso 3<end>", "actno"]
    (sample,) = only(traces, tmp_path, **options, mask_shared_prefix=True)
    assert [text(row) for row in sample["labels"]] == ["act\nso 3<end>", "no<end>"]


def test_added_traces_are_trained_on_from_their_first_epoch_on(tmp_path: Path) -> None:
    served: list[set[str]] = []

    class Serves(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            served.append(set())

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, *args: Any) -> None:
            served[-1] |= {text(row).removesuffix("<end>") for row in batch["labels"]}

    module = data(tmp_path, [Trace("one", "a"), Trace("two", "b")])
    before = [row["labels"] for row in module.train_dataloader()]
    wrong = Trace("three", "c", score=0.0)  # all are trained on, whatever their score
    module.set_added([wrong, Trace("four", "d")], [1, 2])
    assert all(map(torch.equal, before, [row["labels"] for row in module.train_dataloader()]))
    student = CausalLM.wrap(tiny_lm.model())
    run = toy.trainer(
        tmp_path,
        max_epochs=3,
        limit_val_batches=0,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[Serves()],
    )
    run.fit(DistillationModule(student, CrossEntropy()), module)
    assert served == [{"a", "b"}, {"a", "b", "c"}, {"a", "b", "c", "d"}]
    assert [len(part) for part in module.traces] == [2, 0]
    module.set_added([], [])
    run = toy.trainer(tmp_path, callbacks=[Serves()], limit_val_batches=0)
    run.fit(DistillationModule(student, CrossEntropy()), module)
    assert served[-1] == {"a", "b"}
