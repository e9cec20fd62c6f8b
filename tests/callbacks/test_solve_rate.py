"""The share of prompts that the student solves, measured when validation ends."""

from __future__ import annotations

import copy
import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from torch import nn

from kdlight import CausalLM, DistillationMixin, DistillationModule
from kdlight.callbacks import SolveRate
from kdlight.cli import main
from kdlight.data import read_traces
from kdlight.data.traces import Trace, write_traces
from kdlight.data.traces.generate import generate_traces
from kdlight.data.traces.verification.solve_rates import number_key, solve_rates, text_key
from kdlight.data.traces.verification.verifiers import number
from kdlight.data.traces.verification.verify import verify_traces
from kdlight.models import Sampling
from kdlight.objectives import ForwardKL
from tests.support import tiny_lm, toy
from tests.support.saying import saying

CONFIGS = Path(__file__).parents[2] / "configs"
PROMPTS = [Trace(f"{i} + {i + 1} =", "", answer=str(2 * i + 1)) for i in range(5)]
GREEDY = Sampling(temperature=0.0, max_new_tokens=6)
SAMPLED = Sampling(temperature=1.5, max_new_tokens=6, seed=3)


class TrainingData(LightningDataModule):
    """Toy batches, whose token ids are those of the first characters of the tokenizer."""

    def __init__(self, tokenizer: Any = None) -> None:
        super().__init__()
        self.tokenizer = tiny_lm.tokenizer() if tokenizer is None else tokenizer

    def train_dataloader(self) -> Any:
        return toy.loader(8)


class Data(TrainingData):
    """The same with validation."""

    def val_dataloader(self) -> Any:
        return toy.loader(8, count=8, seed=1)


def module(student: Any = None, *, dropout: float = 0.0) -> DistillationModule:
    networks = [tiny_lm.model(seed=seed) for seed in (1, 2)]
    networks[0].config.attention_dropout = dropout
    student, teacher = (CausalLM.wrap(each) for each in (student or networks[0], networks[1]))
    return DistillationModule(student, ForwardKL(), teacher)


def contains_digit(trace: Trace) -> bool:
    return any(sign.isdigit() for sign in trace.response)


def logged(
    folder: Path, callback: SolveRate, learner: Any = None, data: Any = None, **options: Any
) -> dict[str, float]:
    """Return what a fit logs."""
    learner, data = learner or module(), data or Data()
    run = toy.trainer(folder, callbacks=[callback], num_sanity_val_steps=0, **options)
    run.fit(learner, data)
    return {name: value.item() for name, value in run.callback_metrics.items()}


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.0, max_new_tokens=6), SAMPLED])
def test_it_is_equal_to_generating_and_verifying_with_the_trained_student(
    sampling: Sampling, tmp_path: Path
) -> None:
    samples = 1 if sampling.temperature == 0 else 3
    callback = SolveRate(
        PROMPTS, contains_digit, samples=samples, sampling=sampling, batch_size=4,
        shortest=None if samples == 1 else 2,
    )  # fmt: skip
    learner = module()
    values = logged(tmp_path, callback, learner)
    path = generate_traces(
        learner.student, tiny_lm.tokenizer(), PROMPTS, tmp_path / "t.jsonl",
        sampling=sampling, chat=False, samples=samples, batch_size=4,
    )  # fmt: skip
    parts = verify_traces(read_traces(str(path)), contains_digit)
    offline = sorted(
        (trace for part in parts for trace in part),
        key=lambda trace: (trace.prompt[:1], trace.meta["generation"]),
    )
    assert callback.answers == offline
    rates = solve_rates(offline, shortest=None if samples == 1 else 2, key=text_key)
    expected = {
        "solve_rate": rates.solve_rate,
        "tokens_per_answer": rates.tokens_per_answer,
        "unfinished_answers": rates.unfinished,
    }
    if samples > 1:
        assert rates.short is not None
        expected |= {"majority": rates.majority, "short_2_of_3": rates.short}
    found = {name[4:]: value for name, value in values.items() if name[4:] in expected}
    assert found == pytest.approx(expected)
    assert set(found) == set(expected)
    assert 0 < rates.tokens_per_answer <= 6


def test_the_right_and_the_wrong_answers_are_counted(tmp_path: Path) -> None:
    says, tokenizer = saying("so 7<end>")
    prompts = [Trace(f"{i}", "", answer=answer) for i, answer in enumerate("7778")]
    greedy = Sampling(temperature=0.0, max_new_tokens=8)
    run = toy.trainer(tmp_path, callbacks=[SolveRate(prompts, sampling=greedy)])
    (values,) = run.validate(module(says), Data(tokenizer), verbose=False)
    assert values["val/solve_rate"] == 0.75
    assert values["val/tokens_per_answer"] == 5.0
    assert values["val/unfinished_answers"] == 0.0
    assert not {"val/majority"} & set(values)
    short = SolveRate(prompts, sampling=Sampling(temperature=0.0, max_new_tokens=4), name="short")
    run = toy.trainer(tmp_path, callbacks=[short])
    (values,) = run.validate(module(says), Data(tokenizer), verbose=False)
    assert values["val/short/solve_rate"] == 0.0  # although each says 7
    assert values["val/short/unfinished_answers"] == 1.0


def test_training_is_the_same_without_it(tmp_path: Path) -> None:
    class Modes(Callback):
        modes: list[bool] = []

        def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
            self.modes.append(all(part.training for part in module.student.modules()))

    weights = []
    for callbacks in ([], [SolveRate(PROMPTS, samples=2, sampling=SAMPLED)]):
        torch.manual_seed(0)
        learner = module(dropout=0.5)
        run = toy.trainer(
            tmp_path, callbacks=[*callbacks, Modes()], max_epochs=2, val_check_interval=2
        )
        run.fit(learner, Data())
        weights.append(learner.student.state_dict())
        assert all(torch.equal(weights[0][name], each) for name, each in weights[-1].items())
    assert len(Modes.modes) == 16
    assert all(Modes.modes)


def test_answers_of_a_validation_can_be_repeated(tmp_path: Path) -> None:
    callback, learner = SolveRate(PROMPTS, samples=3, sampling=SAMPLED), module()
    answers = []
    for _ in range(2):
        toy.trainer(tmp_path, callbacks=[callback]).validate(learner, Data(), verbose=False)
        answers.append(callback.answers)
    assert answers[0] == answers[1]
    assert len({trace.response for trace in answers[0]}) > len(PROMPTS)


def test_it_runs_in_every_nth_epoch_and_not_in_the_sanity_check(tmp_path: Path) -> None:
    class Count(SolveRate):
        epochs: list[int] = []

        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.answers = []
            super().on_validation_epoch_end(trainer, pl_module)
            if self.answers:
                self.epochs.append(trainer.current_epoch)

    callback = Count(PROMPTS[:1], sampling=Sampling(0.0, max_new_tokens=2), every_n_epochs=2)
    toy.trainer(tmp_path, callbacks=[callback], max_epochs=4).fit(module(), Data())
    assert callback.epochs == [1, 3]


def test_a_number_is_voted_for_in_any_words(tmp_path: Path) -> None:
    callback = SolveRate(PROMPTS, "number", samples=3, sampling=SAMPLED)
    values = logged(tmp_path, callback)
    rates = solve_rates(callback.answers, key=number_key)
    assert values["val/majority"] == pytest.approx(rates.majority)


class Own(LightningModule):
    """A module of a user's own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.net(batch).logits().square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("own", self.net(batch).logits().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


class Distilled(DistillationMixin, Own):
    def student_logits(self, batch: Any) -> Any:
        return self.net(batch)


def test_a_module_with_the_mixin(tmp_path: Path) -> None:
    student, teacher = (CausalLM.wrap(tiny_lm.model(seed=seed)) for seed in (1, 2))
    learner = Distilled(student).distill(ForwardKL(), teacher, task_weight=0.0)
    callback = SolveRate(PROMPTS, contains_digit, sampling=Sampling(0.0, max_new_tokens=6))
    values = logged(tmp_path, callback, learner)
    assert values["distillation/solve_rate"] == pytest.approx(
        sum(trace.score or 0.0 for trace in callback.answers) / len(PROMPTS)
    )
    with pytest.raises(ValueError, match=r"needs a kdlight.DistillationModule.* got Own"):
        logged(tmp_path, callback, Own(copy.deepcopy(student)))


def test_several_callbacks_have_names(tmp_path: Path) -> None:
    write_traces(tmp_path / "p.jsonl", PROMPTS)
    first = SolveRate(
        str(tmp_path / "p.jsonl"), name="sums", sampling=Sampling(0.0, max_new_tokens=2)
    )
    second = SolveRate(PROMPTS[:1], sampling=Sampling(0.0, max_new_tokens=2))
    run = toy.trainer(tmp_path, callbacks=[first, second])
    run.validate(module(), Data(), verbose=False)
    assert {"val/sums/solve_rate", "val/solve_rate"} <= set(run.callback_metrics)
    with pytest.raises(ValueError, match="two SolveRate callbacks have the name None"):
        toy.trainer(tmp_path, callbacks=[second, copy.copy(second)]).fit(module(), Data())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"verifier": "nobody"}, "no verifier 'nobody'"),
        ({"samples": 2}, r"samples is 2, but with sampling.temperature 0 all of them are the same"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"samples": 2, "sampling": SAMPLED, "shortest": 3}, "shortest must be at most 2, got 3"),
        ({"shortest": 0}, "shortest must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"every_n_epochs": 0}, "every_n_epochs must be at least 1"),
        ({"threshold": float("nan")}, "threshold must be a finite number"),
        ({"sampling": Sampling(0.0)}, "max_new_tokens must be the length of an answer, got None"),
    ],
    ids=range(9),
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SolveRate(PROMPTS, **options)


@pytest.mark.parametrize("prompts", [5, None, ["1 + 1 ="]], ids=["number", "none", "texts"])
def test_prompts_of_another_kind_are_refused(prompts: Any) -> None:
    with pytest.raises(TypeError, match="prompts must be a file or a list of Trace"):
        SolveRate(prompts)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("no.jsonl", "no.jsonl does not exist"),
        ([], "prompts must hold at least one prompt"),
        (PROMPTS[:1] * 2, "must have different ids"),
        ([Trace("1 + 1 =", "")], "has no answer to compare"),
        ([Trace("1 + 1 =", "", answer="blue")], "must be a number, got 'blue'"),
        ([Trace("1" * 250, "", answer="1")], "but the context of the model is 256"),
        ([Trace("", "", answer="1")], "has no tokens"),
    ],
    ids=range(7),
)
def test_bad_prompts_are_refused_before_training(
    prompts: Any, message: str, tmp_path: Path
) -> None:
    learner = module()
    before = copy.deepcopy(learner.student.state_dict())
    with pytest.raises(ValueError, match=message):
        logged(tmp_path, SolveRate(prompts, sampling=Sampling(0.0, max_new_tokens=8)), learner)
    assert all(torch.equal(before[k], each) for k, each in learner.student.state_dict().items())


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (TrainingData(), {}, "but this run has none"),
        (Data(), {"limit_val_batches": 0}, "but this run has none"),
        (Data(), {"max_epochs": 1, "every": 2}, "the run has 1 epochs, so that SolveRate would"),
        (toy.RaggedModule(8), {}, "takes the tokenizer from the data module, which has none"),
    ],
    ids=range(4),
)
def test_a_run_that_cannot_answer_is_refused(
    data: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    callback = SolveRate(PROMPTS, every_n_epochs=options.pop("every", 1))
    callback.sampling = Sampling(0.0, max_new_tokens=4)
    with pytest.raises(ValueError, match=message):
        logged(tmp_path, callback, data=data, **options)


class EmptyValidation(TrainingData):
    """A data module whose part to validate on is empty, as with validation_fraction=0."""

    def val_dataloader(self) -> Any:
        return []


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_a_validation_without_batches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="this run has no batches to validate on; give it some"):
        logged(tmp_path, SolveRate(PROMPTS, sampling=GREEDY), data=EmptyValidation())


def test_epochs_without_validation_are_counted(tmp_path: Path) -> None:
    options = {"max_epochs": 4, "check_val_every_n_epoch": 2}
    message = "every_n_epochs is 3 and check_val_every_n_epoch 2, but the run has 4 epochs"
    with pytest.raises(ValueError, match=message):
        logged(tmp_path, SolveRate(PROMPTS, every_n_epochs=3), **options)


def test_tools_take_room(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "add", "description": "x" * 300}}
    tokenizer = tiny_lm.tokenizer(chat=True)
    tokenizer.chat_template = "{{ tools | string if tools else '' }}" + tokenizer.chat_template
    prompts = [Trace("3 + 4 =", "", answer="7", tools=[tool])]
    with pytest.raises(ValueError, match="but the context of the model is 256"):
        logged(tmp_path, SolveRate(prompts), data=Data(tokenizer))


@pytest.mark.parametrize("chat", [None, False])
def test_the_template_is_used_as_by_the_data_module(chat: bool | None) -> None:
    data = SimpleNamespace(tokenizer=tiny_lm.tokenizer(chat=True), chat=chat)
    run: Any = SimpleNamespace(datamodule=data)
    assert SolveRate(PROMPTS)._uses_chat(run) is (chat is None)
    assert SolveRate(PROMPTS, chat=True)._uses_chat(run)


def test_a_verifier_that_fails_is_an_error_with_the_prompt(tmp_path: Path) -> None:
    callback = SolveRate(
        [Trace("1", "", prompt_id="here")], lambda trace: "right",
        sampling=Sampling(0.0, max_new_tokens=200),
    )  # fmt: skip
    says, tokenizer = saying("x<end>")
    with pytest.raises(ValueError, match="returned 'right' on a trace of prompt 'here'"):
        toy.trainer(tmp_path, callbacks=[callback]).validate(module(says), Data(tokenizer))


def test_the_verifier_number_is_found_by_name() -> None:
    assert SolveRate(PROMPTS).verifier is number


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised within Lightning
def test_it_runs_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)
    write_traces("prompts.jsonl", PROMPTS)
    rows = (f'{{"text": "{i} says {"so " * 40}"}}' for i in range(20))
    Path("text.jsonl").write_text("\n".join(rows))
    main(
        [
            "fit",
            f"--config={CONFIGS / 'forward_kl.yaml'}",
            f"--model.teacher.source={tiny_lm.save(tmp_path / 'model')}",
            "--model.student.layers=1",
            "--data.files=text.jsonl",
            "--data.block_size=32",
            "--trainer.accelerator=cpu",
            "--trainer.max_steps=2",
            "--trainer.val_check_interval=1",
            "--trainer.callbacks=[]",
            "--trainer.enable_progress_bar=false",
            "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
            "--trainer.logger.save_dir=.",
            "--trainer.callbacks+=SolveRate",
            "--trainer.callbacks.prompts=prompts.jsonl",
            "--trainer.callbacks.verifier=number",
            "--trainer.callbacks.samples=3",
            "--trainer.callbacks.shortest=2",
            '--trainer.callbacks.sampling={"temperature": 0.7, "max_new_tokens": 8}',
        ]
    )
    (log,) = tmp_path.rglob("metrics.csv")
    rows = list(csv.DictReader(log.read_text().splitlines()))
    names = ("solve_rate", "tokens_per_answer", "unfinished_answers", "majority", "short_2_of_3")
    found = [[row[f"val/{name}"] for name in names] for row in rows if row.get("val/solve_rate")]
    assert len(found) == 2
    assert all(
        0 <= float(value) <= (8 if i == 1 else 1) for row in found for i, value in enumerate(row)
    )
