"""Make new training data during a fit, where the student fails or succeeds.

In a config::

    trainer:
      reload_dataloaders_every_n_epochs: 1
      callbacks:
        - class_path: kdlight.callbacks.Rounds
          init_args:
            recipe:
              class_path: kdlight.callbacks.SelfImitationRound
              init_args: {critic: number, samples: 4}
            sampling: {temperature: 0.7, max_new_tokens: 256}
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng

from kdlight.callbacks.generation.answer_checks import check_answerable
from kdlight.callbacks.generation.checks import check_generates, check_strategy, datamodule_of
from kdlight.callbacks.module_check import check_module
from kdlight.callbacks.round_recipes.epoch_start import start_with_first_batch
from kdlight.callbacks.round_recipes.first_rank import from_first_rank
from kdlight.callbacks.round_recipes.origins import ORIGIN, as_prompt
from kdlight.callbacks.round_recipes.pool import Pool
from kdlight.callbacks.round_recipes.preparation import all_prompts, new_traces, prepare_work
from kdlight.callbacks.round_recipes.recipe import RoundRecipe
from kdlight.callbacks.round_recipes.run_checks import (
    check_answers,
    check_data,
    check_epochs,
    check_reloads,
    check_teacher,
)
from kdlight.checks import check_integer, check_type
from kdlight.data.traces.chat import uses_chat
from kdlight.data.traces.module import TracesDataModule
from kdlight.data.traces.prompts import read_prompts
from kdlight.data.traces.trace import Trace
from kdlight.models.sampling import Sampling
from kdlight.modules.base import DistillationBase


class Rounds(Callback):
    """Makes new traces after every n-th epoch, and trains on them from the next epoch on.

    What is made is told by the recipe: `kdlight.callbacks.CompetitiveRound` (new prompts where the
    student falls short of its teacher), `kdlight.callbacks.SelfImitationRound` (the student's own
    answers that a critic accepts), or `kdlight.callbacks.BudgetedRound` (the same, with more
    answers to some prompts). New traces become a part of the training data of a
    `kdlight.data.TracesDataModule`. A round without a new trace ends the rounds, with a warning
    that tells why; the fit goes on with the data that there are.

    A trace tells in ``meta["origin"]`` in which ``round`` it was made, its ``author`` (``student``
    or ``teacher``) and its ``score``. Traces that are equal to others in prompt and response are
    left out, and so are those that are longer than the context of a network, and those of prompts
    that are validated on.

    The traces are in ``pool.jsonl`` of a folder, which rank 0 writes; all ranks get the same. What
    a round makes is in ``round_N`` beside it. A round that was interrupted goes on from there if
    the student has the same weights, so that the pool has the same bytes as without the
    interruption. With `kdlight.callbacks.ExactResume` this holds for the weights as well. Resumed
    from an earlier checkpoint, a run with a folder of its own gets a copy of what the pool had
    then; in the same folder, the pool loses what later rounds had added. The state of the global
    random generators is not changed.

    There are more batches in an epoch after a round. A schedule over the whole run does not know
    this before: set ``max_steps`` for a number of steps that is known.

    Logged as ``train/round/...``, for a module with the `kdlight.DistillationMixin` as
    ``distillation/round/...``: ``added`` and ``pool``, numbers of traces, and what the recipe
    measures, such as ``hard``, the share of hard prompts, or ``accepted``, that of accepted
    answers.

    Args:
        recipe: what is made in a round.
        every_n_epochs: number of epochs before each round. No round follows the last epoch.
        prompts: where the prompts are, as for `kdlight.data.traces.prompts.read_prompts`, or a list
            of `kdlight.data.traces.Trace`; None for those of the training data, which grow with it.
        max_prompts: number of prompts in a round, drawn anew for each; None for all.
        sampling: how the student generates, with ``max_new_tokens``; its seed is that of all draws.
        batch_size: number of answers generated at once on a rank.
        directory: the folder; None for ``rounds`` in the log directory of the run.

    Attributes:
        pool: the traces that were made.
        history: the epoch of each round, and what was logged in it.
        ended: why there are no more rounds; None while there are.

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: Before training: a number outside its range; loaders that are not made anew; a
            data module without traces, or with a limit per prompt; prompts that are missing or too
            long; a student that does not generate; FSDP1 or DeepSpeed, under which it cannot; a
            cached teacher; a folder with the pool of another run. In a round: a critic that fails.

    Example:
        >>> from kdlight.callbacks import SelfImitationRound
        >>> Rounds(SelfImitationRound("number")).every_n_epochs
        1
    """

    def __init__(
        self,
        recipe: RoundRecipe,
        every_n_epochs: int = 1,
        prompts: str | Path | Sequence[Any] | None = None,
        max_prompts: int | None = None,
        sampling: Sampling = Sampling(max_new_tokens=256),  # noqa: B008
        batch_size: int = 8,
        directory: str | Path | None = None,
    ) -> None:
        check_type("recipe", recipe, RoundRecipe, "a kdlight.callbacks.SelfImitationRound or alike")
        check_integer("every_n_epochs", every_n_epochs, 1)
        check_integer("batch_size", batch_size, 1)
        if max_prompts is not None:
            check_integer("max_prompts", max_prompts, 1)
        if prompts is not None:
            check_type("prompts", prompts, (str, Path, Sequence), "a file or a list of Trace")
        if not isinstance(prompts, (str, Path, type(None))):
            if not prompts:
                raise ValueError("prompts is empty; give some, or None for the training data's")
            for prompt in prompts:
                check_type("prompts", prompt, Trace, "a file or a list of Trace")
        check_type("sampling", sampling, Sampling, "a kdlight.models.Sampling")
        check_type("directory", directory, (str, Path, type(None)), "a folder or None")
        if sampling.max_new_tokens is None:
            raise ValueError("sampling.max_new_tokens must be the length of an answer, got None")
        self.recipe, self.every_n_epochs, self.max_prompts = recipe, every_n_epochs, max_prompts
        self.prompts, self.sampling, self.batch_size = prompts, sampling, batch_size
        self.directory = directory
        self._reset()

    def _reset(self) -> None:
        self.pool: list[Trace] = []
        self.history: list[dict[str, float]] = []
        self.ended: str | None = None
        self._epoch = -1  # the last one that a round followed
        self._folder = Path()
        self._is_resumed = False
        self._state: dict[str, Any] = {}
        self._prompts: list[Trace] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the student can answer, and that the run can train on what is made."""
        if stage != "fit":
            return
        self._reset()
        module = check_module("Rounds", pl_module)
        data = check_data(datamodule_of(trainer))
        data.set_added([], [])  # which another run may have left
        check_reloads(trainer)
        check_epochs(trainer, self.every_n_epochs)
        student = module.student_network()
        check_generates("Rounds", "student", student)
        check_strategy("Rounds", trainer)
        check_teacher(module)
        self.recipe.check(trainer, module, self.sampling)
        folder = trainer.log_dir or trainer.default_root_dir
        self._folder = Path(self.directory or Path(trainer.strategy.broadcast(folder), "rounds"))
        if self.prompts is not None:
            own = self.prompts
            read = read_prompts(str(own)) if isinstance(own, (str, Path)) else own
            self._prompts = [as_prompt(prompt) for prompt in read]
        prompts = self._prompts or all_prompts(data.traces.training)
        check_answers(self.recipe, prompts)
        check_answerable(
            student,
            data.tokenizer,
            prompts,
            chat=uses_chat(data.tokenizer, data.chat),
            max_new_tokens=self.sampling.max_new_tokens or 1,
        )

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the pool that there was, before the loaders are made."""
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if trainer.state.fn != "fit" or state is None:
            return
        self._is_resumed = True
        self._epoch, self.ended = state["epoch"], state["ended"]
        self.history = list(state["history"])

        def restore() -> tuple[Path, list[Trace]]:
            pool = self._restored(Path(state["directory"]), state["pool"])
            return pool.path.parent, pool.read()

        self._folder, pool = from_first_rank(trainer, restore)
        self._use(trainer, pool, state["pool"])

    def _restored(self, folder: Path, state: dict[str, Any]) -> Pool:
        """Return the pool of a resumed run, in the state of its checkpoint."""
        before, own = Pool(folder), Pool(self._folder)
        if self.directory is None and before.state() == state:
            return before  # goes on where it was
        if own.path.exists() or own.path.absolute() == before.path.absolute():
            own.restore(state)
        else:  # from an earlier checkpoint: what was made later stays where it is
            own.begin_like(before, state)
        return own

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the folder has no pool of another run; or resume between two epochs."""
        if self._is_resumed:
            # Lightning does not repeat the end of an epoch before which a checkpoint was written
            self._after_epoch(trainer, pl_module, trainer.current_epoch - 1)
            start_with_first_batch(trainer)
            return
        pool = Pool(self._folder)
        self._state = from_first_rank(trainer, pool.state)
        if self._state["traces"]:
            raise ValueError(
                f"{pool.path} holds {self._state['traces']} traces of another run; continue that"
                " run with ckpt_path, choose another `directory`, or remove the folder"
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make new traces, and add them to the training data."""
        if not self._after_epoch(trainer, pl_module, trainer.current_epoch):
            return
        assert isinstance(pl_module, DistillationBase)
        values = {name: value for name, value in self.history[-1].items() if name != "epoch"}
        for name, value in values.items():
            pl_module.log(f"{pl_module.log_prefix}/round/{name}", value, sync_dist=True)

    def _after_epoch(self, trainer: Trainer, module: LightningModule, epoch: int) -> bool:
        """Make a round after an epoch, if one is due and was not made; return whether it was."""
        if self.ended is not None or epoch <= self._epoch or not self._is_due(trainer, epoch + 1):
            return False
        assert isinstance(module, DistillationBase)
        with isolate_rng():
            self._run(trainer, module, epoch)
        self._epoch = epoch
        return True

    def _is_due(self, trainer: Trainer, epochs: int) -> bool:
        steps = trainer.global_step
        may_stop = epochs >= (trainer.min_epochs or 0) and steps >= (trainer.min_steps or 0)
        is_last = epochs == trainer.max_epochs or steps == trainer.max_steps
        is_last = is_last or (trainer.should_stop and may_stop)
        return epochs > 0 and not is_last and epochs % self.every_n_epochs == 0

    def _run(self, trainer: Trainer, module: DistillationBase, epoch: int) -> None:
        """Make the traces of one round."""
        data, pool = datamodule_of(trainer), Pool(self._folder)
        work = prepare_work(
            trainer,
            module,
            folder=self._folder,
            number=len(self.history) + 1,
            pool=self.pool,
            prompts=self._prompts or all_prompts([*data.traces.training, *self.pool]),
            max_prompts=self.max_prompts,
            sampling=self.sampling,
            batch_size=self.batch_size,
            settings=self.recipe.settings(),
        )
        torch.manual_seed(work.seed("functions"))  # for functions of the user that draw
        made = self.recipe.run(work)
        new = new_traces(made, work, data)

        def write() -> tuple[list[Trace], dict[str, Any]]:
            if new:
                pool.add(new)
            return pool.read(), pool.state()

        figures = {"added": float(len(new)), "pool": float(len(self.pool) + len(new))}
        self.history.append({"epoch": epoch, **figures, **work.figures})
        if new:
            self._use(trainer, *from_first_rank(trainer, write))
        text = f"round {work.number}: {work.outcome}; {len(new)} of {len(made)} traces are new"
        rank_zero_info(text)
        if not new:
            self.ended = text
            rank_zero_warn(f"{text}, so that there are no more rounds; the fit goes on")

    def _use(self, trainer: Trainer, pool: list[Trace], state: dict[str, Any]) -> None:
        self.pool, self._state = pool, state
        first = [int(self.history[t.meta[ORIGIN]["round"] - 1]["epoch"]) + 1 for t in pool]
        datamodule_of(trainer).set_added(pool, first)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the new traces out of the data module, which another run may use."""
        if stage == "fit" and isinstance(trainer.datamodule, TracesDataModule):  # type: ignore[attr-defined]
            trainer.datamodule.set_added([], [])  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """Return the rounds so far, and which traces of the pool are theirs."""
        return {
            "epoch": self._epoch,
            "ended": self.ended,
            "history": [dict(each) for each in self.history],
            "pool": self._state,
            "directory": str(self._folder.absolute()),
        }
