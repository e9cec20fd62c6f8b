"""The routes of a server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from kdlight.remote.expected_weights import HEADER, other_weights
from kdlight.remote.wire import TeacherRequest, decode_request, encode_scores, encode_states
from kdlight.serve.access import BearerAccess
from kdlight.serve.limits import BAD, TOO_LARGE, Limits, Refusal
from kdlight.serve.measures import Measures
from kdlight.serve.worker import Full, Worker

LOGGER = logging.getLogger(__name__)
BYTES = "application/octet-stream"
BODY_SECONDS = 60
"""How long the body of a request may take, so that a client that stalls holds nothing."""

TOO_SLOW = 408
GONE, FAILED, CANNOT, CONFLICT = 499, 500, 422, 409
"""Statuses: the client has left; the teacher failed, which may pass; which will not pass; the
teacher is another one than the client began with."""


class ServerApp:
    """The application of a server.

    Args:
        worker: runs the teacher.
        limits: what one request may ask for.
        token: the token of clients; None for none.
        is_stopping: returns whether the server is about to end.

    Example:
        >>> import torch
        >>> from kdlight.serve import ServedTeacher
        >>> worker = Worker(ServedTeacher(torch.nn.Embedding(5, 7)), queue=4)
        >>> [route.path for route in ServerApp(worker, Limits()).starlette.routes]
        ['/health', '/v1/teacher', '/v1/score', '/v1/head', '/metrics']
    """

    def __init__(
        self,
        worker: Worker,
        limits: Limits,
        *,
        token: str | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.worker, self.limits, self.is_stopping = worker, limits, is_stopping
        self.measures = Measures(lambda: worker.waiting)
        routes = [
            Route("/health", self.health),
            Route("/v1/teacher", self.teacher),
            Route("/v1/score", self.score, methods=["POST"]),
            Route("/v1/head", self.head),
            Route("/metrics", self.metrics),
        ]
        access = [] if token is None else [Middleware(BearerAccess, token=token)]
        self.starlette = Starlette(routes=routes, middleware=access)

    async def health(self, request: Request) -> Response:
        """Answer whether requests are answered."""
        self._check_ready()
        return PlainTextResponse("ready")

    async def teacher(self, request: Request) -> Response:
        """Answer what is served."""
        self._check_ready()
        limits = {
            "max_k": self.limits.k,
            "max_tokens": self.limits.max_tokens,
            "max_entries": self.limits.entries,
        }
        return JSONResponse({**self.worker.teacher.info, **limits})

    async def metrics(self, request: Request) -> Response:
        """Answer all counts."""
        return Response(self.measures.text(), media_type="text/plain; version=0.0.4")

    async def head(self, request: Request) -> Response:
        """Answer the output head."""
        self._check_ready()
        self._check_weights(request)
        try:
            content = await run_in_threadpool(self.worker.teacher.encoded_head)
        except ValueError as error:
            raise HTTPException(BAD, str(error)) from error
        return Response(content, media_type=BYTES)

    async def score(self, request: Request) -> Response:
        """Answer scores or hidden states, and count the request."""
        began, kind, positions, status = time.perf_counter(), "unknown", 0, FAILED
        try:
            asked = await self._read(request)
            kind = asked.kind
            response = await self._answer(request, asked)
            status = response.status_code
            positions = sum(asked.lengths) if status == 200 else 0
            return response
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            seconds = time.perf_counter() - began
            self.measures.count(kind, status, positions=positions, seconds=seconds)

    async def _read(self, request: Request) -> TeacherRequest:
        self._check_ready()
        self._check_weights(request)
        try:
            content = await asyncio.wait_for(self._body(request), BODY_SECONDS)
        except asyncio.TimeoutError:
            raise HTTPException(
                TOO_SLOW, f"the request is not complete after {BODY_SECONDS} seconds"
            ) from None
        except ClientDisconnect:
            raise HTTPException(GONE, "the client has left") from None
        try:
            asked = await run_in_threadpool(decode_request, content)
            self.limits.check(asked, self.worker.teacher.info)
        except Refusal as error:
            raise HTTPException(error.status, str(error)) from error
        except ValueError as error:
            raise HTTPException(BAD, f"no request that can be read: {error}") from error
        return asked

    async def _body(self, request: Request) -> bytes:
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > self.limits.max_bytes:
                raise HTTPException(
                    TOO_LARGE,
                    f"the request has more than {self.limits.max_bytes} bytes; send fewer"
                    " sequences in one request, or start the server with a larger --max_tokens",
                )
        return bytes(content)

    async def _answer(self, request: Request, asked: TeacherRequest) -> Response:
        try:
            answer = self.worker.submit(asked)
        except Full:
            raise HTTPException(
                429, f"{self.limits.queue} requests wait already", {"Retry-After": "1"}
            ) from None
        if not await self._is_done(request, answer):
            return Response(status_code=GONE)
        try:
            content = await run_in_threadpool(self._encode, asked, answer.result())
        except (ValueError, TypeError, LookupError) as error:  # as they would be in a fit
            raise HTTPException(CANNOT, f"the teacher cannot answer: {error}") from error
        except Exception as error:
            LOGGER.error("a request of kind %r failed", asked.kind, exc_info=error)
            raise HTTPException(FAILED, f"{type(error).__name__}: {error}") from error
        return Response(content, media_type=BYTES)

    async def _is_done(self, request: Request, answer: Future) -> bool:
        """Wait for an answer; return False, and give it up, where the client has left."""
        waited = asyncio.wrap_future(answer)
        while not (await asyncio.wait({waited}, timeout=1.0))[0]:
            if await request.is_disconnected():
                waited.cancel()
                return False
        waited.exception()  # it is read from the other future
        return True

    def _encode(self, asked: TeacherRequest, answer: Any) -> bytes:
        if asked.kind == "states":
            return encode_states(answer, asked)
        vocabulary = self.worker.teacher.info["vocab_size"]
        return encode_scores(answer, asked, vocabulary=vocabulary)

    def _check_weights(self, request: Request) -> None:
        # a client keeps what it was told, and an output head, over a restart of the server
        reason = other_weights(request.headers.get(HEADER), self.worker.teacher.info["weights"])
        if reason is not None:
            raise HTTPException(CONFLICT, reason)

    def _check_ready(self) -> None:
        state = "stopping" if self.is_stopping() else self.worker.state
        if state != "ready":
            raise HTTPException(503, f"the server is {state}", {"Retry-After": "1"})
