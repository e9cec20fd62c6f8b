"""Traces that are made in batches, kept on disk as they are made, and the same on all ranks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from kdlight.callbacks.round_recipes.first_rank import from_first_rank
from kdlight.callbacks.round_recipes.pool import from_json
from kdlight.data.traces.journal import Journal
from kdlight.data.traces.trace import Trace


def journaled(
    trainer: Trainer,
    path: Path,
    tasks: Sequence[Trace],
    make: Callable[[Sequence[Trace], int], list[Trace]],
    *,
    batch_size: int,
    batches: int = 1,
) -> list[Trace]:
    """Return the traces that ``make`` makes of tasks, on all ranks; none on disk is made anew.

    Rank 0 appends what is made to a journal. After an interruption the file is continued after its
    last complete batch.

    Args:
        trainer: the trainer.
        path: the file.
        tasks: prompts, each with the number of its response in ``meta["generation"]``.
        make: from the tasks of one call, and the number of tasks before them, to as many traces in
            the same order, the same on all ranks. It is called on all ranks equally often.
        batch_size: number of tasks in a batch of the journal.
        batches: number of batches of one call.
    """
    keys = [(task.prompt_id, task.meta["generation"]) for task in tasks]
    options: dict[str, Any] = {"keys": keys, "key_of": _key, "batch_size": batch_size}
    with ExitStack() as stack:
        opened: list[Journal] = []

        def start() -> int:
            journal = stack.enter_context(Journal.open(path, **options, settings={}))
            opened.append(journal)
            return journal.done

        done = from_first_rank(trainer, start)
        while done < len(tasks):
            part = tasks[done : done + batches * batch_size]
            lines = [trace.to_json() for trace in make(part, done)]

            def append(lines: list[str] = lines) -> None:
                for begin in range(0, len(lines), batch_size):
                    opened[0].append(lines[begin : begin + batch_size])

            from_first_rank(trainer, append)
            done += len(part)
        return from_first_rank(trainer, lambda: _read(path))


def _read(path: Path) -> list[Trace]:
    if not path.exists():  # there was no task
        return []
    return [from_json(line) for line in path.read_bytes().decode().split("\n") if line]


def _key(row: Mapping[str, Any]) -> Hashable:
    return row["prompt_id"], row["meta"]["generation"]
