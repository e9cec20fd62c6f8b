"""New training data is made between epochs, and what cannot work is refused before them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn

from kdlight import CausalLM, DistillationModule
from kdlight.cache import CachedTeacher
from kdlight.callbacks import CompetitiveRound, RoundRecipe, Rounds, SelfImitationRound
from kdlight.callbacks.round_recipes.origins import content, with_origin
from kdlight.data import TracesDataModule
from kdlight.data.traces import Trace, write_traces
from kdlight.data.traces.sums import SimilarSums, sample_sums, solve_sums
from kdlight.data.traces.sums_module import SumsDataModule
from kdlight.models import Sampling
from kdlight.objectives import CrossEntropy, ForwardKL
from kdlight.teachers import FrozenTeacher
from tests.support import tiny_lm, toy

SHORT = Sampling(max_new_tokens=4)


class Makes(RoundRecipe):
    """Makes traces of its own, the same in each round if they are few."""

    def __init__(self, per_round: int = 3, total: int = 100) -> None:
        self.per_round, self.total = per_round, total

    def run(self, work: Any) -> list[Trace]:
        first = (work.number - 1) * self.per_round % self.total
        made = [Trace(f"new {first + i}", "1", score=0.1) for i in range(self.per_round)]
        work.figures["made"] = float(len(made))
        work.outcome = f"{len(made)} traces were made"
        return [with_origin(each, work.number, "teacher") for each in made]


class Epochs(Callback):
    """What each epoch trains on."""

    def __init__(self) -> None:
        self.samples: list[int] = []
        self.modes: list[bool] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.samples.append(0)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *args: Any) -> None:
        self.samples[-1] += len(batch["input_ids"])
        self.modes.append(all(part.training for part in pl_module.student.modules()))


def data(**options: Any) -> SumsDataModule:
    return SumsDataModule(
        tiny_lm.tokenizer(), **{"size": 20, "batch_size": 8, "validation_fraction": 0.2, **options}
    )


def module(teacher: Any = None, student: Any = None) -> DistillationModule:
    student = student or CausalLM.wrap(tiny_lm.model())
    return DistillationModule(student, ForwardKL() if teacher else CrossEntropy(), teacher)


def fit(folder: Path, rounds: Rounds, **options: Any) -> tuple[Any, Epochs, SumsDataModule]:
    """Fit with rounds; return the trainer, what was trained on, and the data."""
    epochs, source = Epochs(), options.pop("data", None) or data()
    run = toy.trainer(
        folder,
        **{
            "max_epochs": 4,
            "reload_dataloaders_every_n_epochs": 1,
            "num_sanity_val_steps": 0,
            "callbacks": [rounds, epochs],
            **options,
        },
    )
    run.fit(module(), source)
    return run, epochs, source


def test_each_epoch_trains_on_all_that_was_made_before_it(tmp_path: Path) -> None:
    rounds = Rounds(Makes(), sampling=SHORT)
    run, epochs, source = fit(tmp_path, rounds)
    assert epochs.samples == [16, 19, 22, 25]  # no round follows the last epoch
    assert all(epochs.modes)
    assert [trace.prompt for trace in rounds.pool] == [f"new {i}" for i in range(9)]
    assert [each["pool"] for each in rounds.history] == [3, 6, 9]
    assert run.callback_metrics["train/round/added"] == 3
    assert run.callback_metrics["train/round/made"] == 3
    assert len(source.validation_rows) == 4
    file = tmp_path / "rounds" / "pool.jsonl"
    assert file.read_text().splitlines() == [trace.to_json() for trace in rounds.pool]
    assert {trace.meta["origin"]["author"] for trace in rounds.pool} == {"teacher"}
    assert [trace.meta["origin"]["round"] for trace in rounds.pool] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_rounds_follow_every_nth_epoch_and_not_the_last_step(tmp_path: Path) -> None:
    _, epochs, _ = fit(tmp_path / "a", Rounds(Makes(), every_n_epochs=2, sampling=SHORT))
    assert epochs.samples == [16, 16, 19, 19]
    rounds = Rounds(Makes(), sampling=SHORT)
    _, epochs, _ = fit(tmp_path / "b", rounds, max_steps=5, max_epochs=-1)  # 2 of 16, 3 of 19
    assert epochs.samples == [16, 19]
    assert len(rounds.history) == 1


def test_nothing_is_added_twice(tmp_path: Path) -> None:
    source = data()
    source.setup("fit")
    known, validated = source.traces.training[0], source.traces.validation[0]

    class Repeats(Makes):
        def run(self, work: Any) -> list[Trace]:
            made = super().run(work)
            other_score = Trace(made[0].prompt, made[0].response, score=0.9)
            return [*made, *made, other_score, known, validated, Trace(validated.prompt, "other")]

    rounds = Rounds(Repeats(), sampling=SHORT)
    fit(tmp_path, rounds, data=source)
    assert len(rounds.pool) == 9
    assert len({content(trace) for trace in [*rounds.pool, known]}) == 10


def test_another_run_with_the_same_data_does_not_train_on_what_was_added(tmp_path: Path) -> None:
    source = data()
    for folder in ("one", "two"):
        _, epochs, _ = fit(tmp_path / folder, Rounds(Makes(), sampling=SHORT), data=source)
        assert epochs.samples == [16, 19, 22, 25]
    counts = Epochs()
    run = toy.trainer(
        tmp_path, max_epochs=2, reload_dataloaders_every_n_epochs=1, callbacks=[counts]
    )
    run.fit(module(), source)
    assert counts.samples == [16, 16]


class Stop(Callback):
    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        trainer.should_stop = True


def test_a_run_that_must_not_stop_yet_has_its_rounds(tmp_path: Path) -> None:
    rounds, epochs = Rounds(Makes(), sampling=SHORT), Epochs()
    fit(tmp_path, rounds, callbacks=[Stop(), rounds, epochs], min_epochs=3, max_epochs=5)
    assert [each["epoch"] for each in rounds.history] == [0, 1]
    assert epochs.samples == [16, 19, 22]


def test_prompts_without_what_a_verifier_compares_with_are_refused(tmp_path: Path) -> None:
    rounds = Rounds(SelfImitationRound("number"), prompts=[Trace("1 + 1 =", "")], sampling=SHORT)
    with pytest.raises(ValueError, match="critic of SelfImitationRound .* prompt .* has none"):
        fit(tmp_path, rounds)
    with pytest.raises(ValueError, match="prompts is empty"):
        Rounds(SelfImitationRound("number"), prompts=[])


def test_a_run_to_try_the_code_has_no_round(tmp_path: Path) -> None:
    rounds = Rounds(Makes(), sampling=SHORT)
    fit(tmp_path, rounds, fast_dev_run=True)
    assert rounds.history == []


def test_a_round_without_a_new_trace_ends_the_rounds_and_not_the_fit(tmp_path: Path) -> None:
    rounds = Rounds(Makes(total=3), sampling=SHORT)
    with pytest.warns(UserWarning, match="round 2: 3 traces were made; 0 of 3 traces are new, so"):
        run, epochs, _ = fit(tmp_path, rounds, max_epochs=5)
    assert rounds.ended is not None
    assert rounds.ended.startswith("round 2: 3 traces were made")
    assert epochs.samples == [16, 19, 19, 19, 19]
    assert len(rounds.history) == 2
    assert run.current_epoch == 5


def test_prompts_can_be_given_and_limited(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    class Sees(Makes):
        def run(self, work: Any) -> list[Trace]:
            seen.append([str(prompt.prompt) for prompt in work.prompts])
            return super().run(work)

    prompts = sample_sums(10, seed=5)
    rounds = Rounds(Sees(), prompts=prompts, max_prompts=4, sampling=SHORT)
    fit(tmp_path / "a", rounds)
    assert all(set(each) <= {str(prompt.prompt) for prompt in prompts} for each in seen)
    assert [len(each) for each in seen] == [4, 4, 4]
    assert seen[0] != seen[1]
    write_traces(tmp_path / "prompts.jsonl", prompts)
    drawn, seen[:] = list(seen), []
    fit(tmp_path / "b", Rounds(Sees(), prompts=str(tmp_path / "prompts.jsonl"), sampling=SHORT))
    assert sorted(seen[0]) == sorted(str(prompt.prompt) for prompt in prompts)
    assert drawn[0] != seen[0]
    seen.clear()
    fit(tmp_path / "c", Rounds(Sees(), sampling=SHORT))
    assert [len(each) for each in seen] == [16, 19, 22]  # with those that were made


def test_what_does_not_fit_into_the_context_is_left_out(tmp_path: Path) -> None:
    class Long(Makes):
        def run(self, work: Any) -> list[Trace]:
            return [*super().run(work), Trace("long", "1" * 300)]

    rounds = Rounds(Long(), sampling=SHORT)
    fit(tmp_path, rounds)
    assert len(rounds.pool) == 9


def test_random_generators_are_not_changed(tmp_path: Path) -> None:
    class Draws(Makes):
        drawn: list[float] = []

        def run(self, work: Any) -> list[Trace]:
            self.drawn.append(torch.rand(()).item())
            return []  # nothing that would change the training

    weights = []
    for callbacks in ([], [Rounds(Draws(), sampling=SHORT)]):
        torch.manual_seed(0)
        network = tiny_lm.model()
        for part in network.modules():
            if hasattr(part, "attention_dropout"):
                part.attention_dropout = 0.3
        learner = module(student=CausalLM.wrap(network))
        run = toy.trainer(
            tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1, callbacks=callbacks
        )
        if callbacks:
            with pytest.warns(UserWarning, match="no more rounds"):
                run.fit(learner, data())
        else:
            run.fit(learner, data())
        weights.append(learner.student.state_dict())
    assert len(Draws.drawn) == 1
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


def test_the_pool_of_another_run_is_not_overwritten(tmp_path: Path) -> None:
    fit(tmp_path, Rounds(Makes(), sampling=SHORT))
    before = (tmp_path / "rounds" / "pool.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"pool.jsonl holds 9 traces of another run; continue"):
        fit(tmp_path, Rounds(Makes(), sampling=SHORT))
    assert (tmp_path / "rounds" / "pool.jsonl").read_bytes() == before


@pytest.mark.parametrize("named", [False, True], ids=["own_folder", "directory"])
def test_a_run_from_an_earlier_checkpoint_leaves_the_later_rounds(
    named: bool, tmp_path: Path
) -> None:
    class SaveFirst(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "early.ckpt")

    rounds = Rounds(Makes(), sampling=SHORT)
    fit(tmp_path / "a", rounds, callbacks=[rounds, SaveFirst()])
    pool = tmp_path / "a" / "rounds" / "pool.jsonl"
    before = pool.read_bytes()
    directory = tmp_path / "b" / ("named" if named else "rounds")
    other = Rounds(Makes(), sampling=SHORT, directory=directory if named else None)
    run = toy.trainer(
        tmp_path / "b",
        max_epochs=4,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[other],
    )
    run.fit(module(), data(), ckpt_path=tmp_path / "early.ckpt", weights_only=False)
    assert pool.read_bytes() == before
    assert (directory / "pool.jsonl").read_bytes() == before  # made again, the same


def test_a_checkpoint_whose_pool_is_gone_is_refused(tmp_path: Path) -> None:
    run, _, _ = fit(tmp_path, Rounds(Makes(), sampling=SHORT))
    run.save_checkpoint(tmp_path / "last.ckpt")
    shutil.rmtree(tmp_path / "rounds")
    run = toy.trainer(
        tmp_path,
        max_epochs=6,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[Rounds(Makes(), sampling=SHORT)],
    )
    with pytest.raises(ValueError, match=r"must begin with the 9 traces .* but it is missing"):
        run.fit(module(), data(), ckpt_path=tmp_path / "last.ckpt", weights_only=False)


class Silent(nn.Module):
    """A language model that does not generate."""

    def __init__(self) -> None:
        super().__init__()
        self.network = CausalLM.wrap(tiny_lm.model())

    def forward(self, batch: Any) -> Any:
        return self.network(batch)


def refused(folder: Path, match: str, *, learner: Any = None, source: Any = None, **options: Any):
    """Check that a run is refused before its first batch."""
    epochs = Epochs()
    recipe = options.pop("recipe", None) or SelfImitationRound("number")
    rounds = Rounds(recipe, **{"sampling": SHORT, **options.pop("rounds", {})})
    run = toy.trainer(
        folder,
        callbacks=[rounds, epochs],
        **{"max_epochs": 2, "reload_dataloaders_every_n_epochs": 1, **options},
    )
    with pytest.raises(ValueError, match=match):
        run.fit(learner or module(), source or data())
    assert epochs.samples == []


def test_loaders_that_are_not_made_anew_are_refused(tmp_path: Path) -> None:
    refused(
        tmp_path,
        r"set Trainer\(reload_dataloaders_every_n_epochs=1\), got 0",
        reload_dataloaders_every_n_epochs=0,
    )


def test_too_few_epochs_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, "every_n_epochs is 2, but the run has 2", rounds={"every_n_epochs": 2})


def test_a_strategy_under_which_the_student_cannot_generate_is_refused(tmp_path: Path) -> None:
    rounds = Rounds(Makes(), sampling=SHORT)
    run = toy.trainer(
        tmp_path, max_epochs=2, reload_dataloaders_every_n_epochs=1, callbacks=[rounds]
    )
    learner, source = module(), data()
    source.setup("fit")
    run.datamodule = source  # type: ignore[attr-defined]
    run.strategy.__class__ = FSDPStrategy  # it needs a GPU
    with pytest.raises(ValueError, match="Rounds cannot generate under FSDPStrategy"):
        rounds.setup(run, learner, "fit")


def test_a_cached_teacher_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = CachedTeacher.__new__(CachedTeacher)
    learner = module()
    learner.teacher = cached
    monkeypatch.setattr(CachedTeacher, "networks", lambda self: [])
    refused(tmp_path, "a CachedTeacher has no network to compute them", learner=learner)


def test_a_student_that_does_not_generate_is_refused(tmp_path: Path) -> None:
    learner = module(student=Silent())
    refused(tmp_path, "student that generates text, and Silent does not", learner=learner)


def test_data_without_traces_are_refused(tmp_path: Path) -> None:
    refused(
        tmp_path,
        "the data are no data module",
        learner=toy.module(CrossEntropy()),
        source=toy.loader(4),
    )


def test_data_that_would_not_use_what_is_added_are_refused(tmp_path: Path) -> None:
    write_traces(tmp_path / "t.jsonl", solve_sums(sample_sums(9, seed=0)))
    source = TracesDataModule(tiny_lm.tokenizer(), str(tmp_path / "t.jsonl"))
    refused(tmp_path, "with per_prompt None, got 1", source=source)


def test_a_prompt_that_is_too_long_is_refused(tmp_path: Path) -> None:
    refused(
        tmp_path,
        "max_new_tokens is 255, but the context of the model is 256",
        rounds={"sampling": Sampling(max_new_tokens=255)},
    )


def test_greedy_samples_are_refused(tmp_path: Path) -> None:
    refused(
        tmp_path,
        "samples is 4, but with sampling.temperature 0",
        rounds={"sampling": Sampling(temperature=0.0, max_new_tokens=4)},
    )


def test_a_teacher_that_cannot_answer_is_refused(tmp_path: Path) -> None:
    recipe = CompetitiveRound(None, "number", SimilarSums())
    refused(tmp_path, "needs a teacher that answers new prompts, and there is none", recipe=recipe)
    learner = module(teacher=FrozenTeacher(Silent()))
    refused(tmp_path, "and Silent does not", recipe=recipe, learner=learner)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"every_n_epochs": 0}, ValueError, "every_n_epochs must be at least 1, got 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"max_prompts": 0}, ValueError, "max_prompts must be at least 1, got 0"),
        ({"max_prompts": 1.5}, TypeError, "max_prompts must be an integer"),
        ({"prompts": 3}, TypeError, "prompts must be a file or a list of Trace, got 3"),
        ({"prompts": ["a"]}, TypeError, "prompts must be a file or a list of Trace, got 'a'"),
        ({"sampling": {}}, TypeError, "sampling must be a kdlight.models.Sampling"),
        ({"sampling": Sampling()}, ValueError, "max_new_tokens must be the length of an answer"),
        ({"directory": 3}, TypeError, "directory must be a folder or None"),
        ({"recipe": "number"}, TypeError, "recipe must be a kdlight.callbacks.SelfImitationRound"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_arguments_are_checked(options: dict[str, Any], error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        Rounds(**{"recipe": Makes(), **options})
