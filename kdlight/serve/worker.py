"""The one thread that runs a teacher, and the requests that wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, Full, Queue
from typing import Any, Literal, NamedTuple, TypeAlias

from kdlight.remote.wire import TeacherRequest
from kdlight.serve.served_teacher import ServedTeacher

State: TypeAlias = Literal["loading", "ready", "stopped"]


class Job(NamedTuple):
    """A request that waits, and the future of its answer."""

    request: TeacherRequest
    answer: Future


class Worker:
    """Runs a teacher in a thread of its own: small requests that wait together run together.

    Args:
        teacher: the teacher.
        queue: number of requests that may wait.
        on_ready: called once, when the teacher is prepared or has failed to be.

    Example:
        >>> import torch
        >>> worker = Worker(ServedTeacher(torch.nn.Embedding(5, 7)), queue=4)
        >>> worker.state, worker.waiting
        ('loading', 0)
    """

    def __init__(
        self,
        teacher: ServedTeacher,
        *,
        queue: int,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.teacher = teacher
        self.state: State = "loading"
        self.error: BaseException | None = None
        self._on_ready = on_ready
        self._jobs: Queue[Job] = Queue(queue)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="teacher", daemon=True)

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return self._jobs.qsize()

    def start(self) -> None:
        """Prepare the teacher, in its thread."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what waits, then end the thread."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def submit(self, request: TeacherRequest) -> Future:
        """Return the future of the answer to ``request``.

        Raises:
            queue.Full: too many requests wait.
        """
        job = Job(request, Future())
        self._jobs.put_nowait(job)
        return job.answer

    def _work(self) -> None:
        try:
            self.teacher.prepare()
            self.state = "ready"
        except BaseException as error:  # it is raised where the server was started
            self.error = error
        self._on_ready()
        held: Job | None = None
        while self.error is None and (held or self._goes_on()):
            held = self._run_next(held)
        self.state = "stopped"
        self.teacher.release()

    def _goes_on(self) -> bool:
        return not self._stopping.is_set() or not self._jobs.empty()

    def _run_next(self, held: Job | None) -> Job | None:
        """Run waiting requests as far as they fit together; return one that did not."""
        jobs = [] if held is None else [held]
        tokens = sum(sum(job.request.lengths) for job in jobs)
        held = None
        while held is None:
            try:
                job = self._jobs.get(timeout=0.0 if jobs else 0.1)
            except Empty:
                break
            tokens += sum(job.request.lengths)
            if jobs and tokens > self.teacher.batch_tokens:
                held = job
            else:
                jobs.append(job)
        self._answer([job for job in jobs if job.answer.set_running_or_notify_cancel()])
        return held

    def _answer(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        try:
            answers: list[Any] = self.teacher.answer([job.request for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
                return
            for job in jobs:  # one of them must not spoil the others
                self._answer([job])
            return
        for job, answer in zip(jobs, answers, strict=True):
            job.answer.set_result(answer)


__all__ = ["Full", "Job", "State", "Worker"]
