"""Answers of a student to prompts, divided among the ranks of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer

from kdlight.callbacks.inference.context import inference_context
from kdlight.data.traces.responses import answer, batch_seed
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.verification.verifiers import Verifier
from kdlight.data.traces.verification.verify import verify_traces
from kdlight.distributed.ranks import data_parallel_group, data_parallel_size
from kdlight.models.call_network import call_network
from kdlight.models.sampling import Sampling
from kdlight.modules.base import DistillationBase

Result = TypeVar("Result")


def answer_on_ranks(
    trainer: Trainer,
    module: DistillationBase,
    tokenizer: Any,
    tasks: Sequence[Trace],
    *,
    sampling: Sampling,
    batch_size: int,
    chat: bool,
    network: Any = None,
    offset: int = 0,
) -> list[Trace]:
    """Return the answers of this rank.

    Batches and their seeds are those of `kdlight.data.traces.generate.generate_traces`, whatever
    the number of ranks; each rank has every n-th of them. So the answers of all ranks together are
    those of one process. All ranks of a sharded student generate equally often.

    Args:
        trainer: the trainer.
        module: the module, whose student answers.
        tokenizer: the tokenizer of the student.
        tasks: all prompts, each as often as it is to be answered.
        sampling: how the student generates.
        batch_size: number of answers generated at once.
        chat: whether to apply the chat template of the tokenizer.
        network: the network that answers, whole on every rank; None for the student.
        offset: number of the tasks before these, for the seeds.
    """
    student: Any = module.student_network() if network is None else network
    sharded = module.device_mesh is not None and network is None
    size = data_parallel_size(trainer)
    options: dict[str, Any] = {**sampling.options(), **({"synced_gpus": True} if sharded else {})}
    starts = range(0, len(tasks), batch_size)
    answers: list[Trace] = []
    for first in range(0, len(starts), size):
        number = first + _rank(trainer, module)
        has_batch = number < len(starts)
        if not (has_batch or sharded):
            break
        start = starts[number] if has_batch else 0
        batch = tasks[start : start + batch_size] if has_batch else tasks[:1]
        if sharded:  # gather the parameters of the root module, which `generate` does not call
            ids = torch.zeros(1, 1, dtype=torch.long, device=module.device)
            call_network(student, {"input_ids": ids})
        torch.manual_seed(batch_seed(sampling.seed, offset + start))
        made = answer(student, tokenizer, batch, chat=chat, **options)
        answers += made if has_batch else []
    return answers


def verified_answers(
    trainer: Trainer,
    module: DistillationBase,
    tokenizer: Any,
    tasks: Sequence[Trace],
    *,
    verifier: Verifier,
    threshold: float,
    **options: Any,
) -> list[Trace]:
    """Return the answers of all ranks with their scores, in the order of ``tasks``.

    Each rank verifies its own answers.

    Args:
        trainer: the trainer.
        module: the module, whose student answers.
        tokenizer: the tokenizer of the student.
        tasks: prompts with the number of the answer in ``meta["generation"]``.
        verifier: computes the score of an answer.
        threshold: the smallest score of a correct answer.
        **options: further arguments of `answer_on_ranks`.
    """
    with inference_context(trainer, module):
        answers = answer_on_ranks(trainer, module, tokenizer, tasks, **options)

    def verify() -> list[Trace]:
        parts = verify_traces(answers, verifier, threshold=threshold)
        return [trace for part in parts for trace in part]

    places = {_place(task): i for i, task in enumerate(tasks)}
    return sorted(gather_results(trainer, verify), key=lambda trace: places[_place(trace)])


def _place(trace: Trace) -> tuple[str, int]:
    return trace.prompt_id, trace.meta["generation"]


def _rank(trainer: Trainer, module: DistillationBase) -> int:
    mesh = module.device_mesh  # tensor-parallel ranks answer the same prompts
    return trainer.global_rank if mesh is None else mesh["data_parallel"].get_local_rank()


def gather_results(trainer: Trainer, compute: Callable[[], list[Result]]) -> list[Result]:
    """Return what ``compute`` returns on all ranks, on every rank.

    Raises:
        ValueError: If it fails on any rank, on all ranks, so that none waits for another.
    """
    try:
        own: tuple[list[Result], str] = (compute(), "")
    except Exception as error:  # the verifier of a user can fail in any way
        if data_parallel_size(trainer) == 1:
            raise
        own = ([], str(error) or type(error).__name__)
    parts: list[Any] = [own]
    if data_parallel_size(trainer) > 1:
        parts = [None] * data_parallel_size(trainer)
        dist.all_gather_object(parts, own, group=data_parallel_group(trainer))
    failed = next((message for _, message in parts if message), None)
    if failed is not None:
        raise ValueError(failed)
    return [each for results, _ in parts for each in results]
