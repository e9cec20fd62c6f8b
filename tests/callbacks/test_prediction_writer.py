"""Predictions written by a real Trainer.predict and by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from kdlight import CausalLM, DistillationModule
from kdlight.callbacks import PredictionWriter
from kdlight.cli import main
from kdlight.data import DigitsDataModule
from kdlight.models import Sampling
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.support import tiny_lm, toy
from tests.support.saying import saying

CONFIGS = Path(__file__).parents[2] / "configs"
PROMPT = 3


class Data(LightningDataModule):
    """Rows of one prompt length, with the tokenizer of the tiny model."""

    def __init__(self, *, responses: bool = True) -> None:
        super().__init__()
        self.tokenizer = tiny_lm.tokenizer()
        self.responses = responses

    def predict_dataloader(self) -> DataLoader:
        def collate(rows: Any) -> Any:
            batch = toy.pad(rows)
            end = PROMPT if self.responses else None
            batch["labels"][:, :end] = -100
            return batch

        data = toy.Ragged(5, length=8, silent=())
        return DataLoader(data, batch_size=2, collate_fn=collate)


def language_module(seed: int = 1) -> DistillationModule:
    student, teacher = (CausalLM.wrap(tiny_lm.model(seed=s)) for s in (seed, 2))
    return DistillationModule(student, ForwardKL(), teacher)


def predict(folder: Path, module: LightningModule, data: Any, **options: Any) -> Any:
    trainer = toy.trainer(folder, callbacks=[PredictionWriter(folder / "out", **options)])
    return trainer.predict(module, data)


def read_lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "out" / "rank0.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_logits_are_written_with_labels_and_indices(tmp_path: Path) -> None:
    module, data = language_module(), Data()
    predictions = predict(tmp_path, module, data)
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"rank0-batch{i:06d}.safetensors" for i in range(3)]
    written = [load_file(file) for file in files]
    for tensors, prediction, batch in zip(
        written, predictions, data.predict_dataloader(), strict=True
    ):
        assert torch.equal(tensors["logits"], prediction)
        assert torch.equal(tensors["labels"], module.labels(batch))  # type: ignore[arg-type]
    assert torch.cat([tensors["indices"] for tensors in written]).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("responses", [True, False])
def test_text_is_written_greedily(responses: bool, tmp_path: Path) -> None:
    data = Data(responses=responses)
    sampling = Sampling(temperature=0.0, max_new_tokens=4)
    predict(tmp_path, language_module(), data, content="text", sampling=sampling)
    lines = read_lines(tmp_path)
    assert [line["index"] for line in lines] == [0, 1, 2, 3, 4]
    model, tokenizer = tiny_lm.model(seed=1).eval(), data.tokenizer
    rows = [row for batch in data.predict_dataloader() for row in batch["input_ids"]]
    for line, row in zip(lines, rows, strict=True):
        prompt = row[: PROMPT if responses else None]
        assert line["prompt"] == tokenizer.decode(prompt, skip_special_tokens=True)
        mask = torch.ones_like(prompt[None])
        out = model.generate(
            prompt[None], attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0
        )
        alone = tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)
        assert line["continuation"] == alone


def test_sampled_text_depends_on_the_seed_alone(tmp_path: Path) -> None:
    texts = []
    for run, seed in enumerate((1, 1, 2)):
        torch.manual_seed(run)
        sampling, folder = Sampling(max_new_tokens=6, seed=seed), tmp_path / str(run)
        predict(folder, language_module(), Data(), content="text", sampling=sampling)
        texts.append([line["continuation"] for line in read_lines(folder)])
    assert texts[0] == texts[1] != texts[2]


def test_the_global_random_generators_are_not_changed(tmp_path: Path) -> None:
    states = []
    for content in ("logits", "text"):
        torch.manual_seed(0)
        options = {"content": content, "sampling": Sampling(max_new_tokens=6)}
        predict(tmp_path, language_module(), Data(), **options)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised within Lightning
def test_the_command_line_writes_logits_of_the_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)
    main(
        [
            "predict",
            f"--config={CONFIGS / 'digits.yaml'}",
            "--trainer.accelerator=cpu",
            "--trainer.logger=false",
            "--trainer.enable_progress_bar=false",
            "--trainer.callbacks+=PredictionWriter",
            "--trainer.callbacks.output=predictions",
            "--return_predictions=false",
        ]
    )
    written = [load_file(file) for file in sorted((tmp_path / "predictions").iterdir())]
    data = DigitsDataModule()
    data.setup()
    assert data.validation_images is not None
    labels = torch.cat([tensors["labels"] for tensors in written])
    assert torch.equal(labels, data.validation_images.tensors[1])
    assert all(tensors["logits"].shape == (len(tensors["labels"]), 10) for tensors in written)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised within Lightning
def test_the_command_line_takes_a_sampling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)
    source = tiny_lm.save(tmp_path / "model")
    rows = (f'{{"text": "{i} says {"so " * 40}"}}' for i in range(20))
    (tmp_path / "text.jsonl").write_text("\n".join(rows))
    writer = {"output": "out", "content": "text", "sampling": {"max_new_tokens": 3}}
    main(
        [
            "predict",
            f"--config={CONFIGS / 'forward_kl.yaml'}",
            f"--model.teacher.source={source}",
            "--model.student.layers=1",
            "--data.files=text.jsonl",
            "--data.block_size=32",
            "--trainer.accelerator=cpu",
            "--trainer.logger=false",
            "--trainer.enable_progress_bar=false",
            "--trainer.limit_predict_batches=1",
            "--trainer.callbacks="
            + json.dumps([{"class_path": "PredictionWriter", "init_args": writer}]),
        ]
    )
    lines = read_lines(tmp_path)
    assert lines
    assert all(len(line["prompt"]) <= 16 for line in lines)
    assert all(len(line["continuation"]) <= 3 for line in lines)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"content": "images"}, "content must be 'logits' or 'text', got 'images'"),
            ({"prompt_tokens": 0}, "prompt_tokens must be at least 1, got 0"),
            ({"content": "text", "sampling": Sampling()}, "sampling needs max_new_tokens"),
        ],
    )
    def test_arguments(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            PredictionWriter("out", **options)

    def test_a_student_that_does_not_generate(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="needs a student that generates text, and ToyLM"):
            predict(tmp_path, toy.module(), Data(), content="text")

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        loader = Data().predict_dataloader()
        with pytest.raises(ValueError, match="takes the tokenizer from the data module, which has"):
            predict(tmp_path, language_module(), loader, content="text")

    def test_predictions_that_are_there_already(self, tmp_path: Path) -> None:
        predict(tmp_path, language_module(), Data())
        with pytest.raises(FileExistsError, match="holds .safetensors files already"):
            predict(tmp_path, language_module(), Data())
        predict(tmp_path, language_module(), Data(), content="text")

    def test_predictions_that_are_no_tensor(self, tmp_path: Path) -> None:
        class Pairs(DistillationModule):
            def predict_step(self, batch: Any, batch_idx: int) -> Any:
                return batch, batch_idx

        module = Pairs(toy.ToyLM(), ForwardKL(), toy.ToyLM())
        with pytest.raises(TypeError, match="predict_step of Pairs returns tuple"):
            predict(tmp_path, module, Data())

    def test_text_for_batches_without_input_ids(self, tmp_path: Path) -> None:
        class Pairs(Data):
            def predict_dataloader(self) -> DataLoader:
                return DataLoader([(torch.zeros(3), torch.tensor(0))] * 4, batch_size=2)  # type: ignore[arg-type]

        class NoLogits(DistillationModule):
            def predict_step(self, batch: Any, batch_idx: int) -> Any:
                return batch_idx

        module = NoLogits(toy.llama(), ForwardKL(), toy.llama())
        with pytest.raises(TypeError, match="mappings with 'input_ids', got list"):
            predict(tmp_path, module, Pairs(), content="text")


def test_special_tokens_other_than_ends_are_written(tmp_path: Path) -> None:
    marks = ("[THINK]", "[/THINK]", "<turn>")
    model, tokenizer = saying("[THINK]a[/THINK]b<turn>c", special=marks, ends=("<turn>",))
    data = Data()
    data.tokenizer = tokenizer
    module = DistillationModule(CausalLM.wrap(tiny_lm.model()), CrossEntropy(), None)
    module.student.model = model
    options: dict[str, Any] = {"sampling": Sampling(temperature=0.0, max_new_tokens=9)}
    predict(tmp_path, module, data, content="text", **options)
    assert read_lines(tmp_path)[0]["continuation"] == "[THINK]a[/THINK]b"
