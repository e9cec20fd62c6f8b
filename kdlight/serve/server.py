"""A server of a teacher: in the foreground of a process, or in a thread of it."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from kdlight.checks import check_integer
from kdlight.serve.access import find_token
from kdlight.serve.app import ServerApp
from kdlight.serve.limits import Limits
from kdlight.serve.served_teacher import ServedTeacher
from kdlight.serve.worker import Worker

if TYPE_CHECKING:
    from typing_extensions import Self


GRACE_SECONDS = 60
"""How long a server that ends waits for requests that run."""


class TeacherServer:
    """Serves a teacher over HTTP, as ``kdlight serve`` does.

    `run` serves until the process is told to stop (SIGINT, SIGTERM); requests that run then are
    answered. As a context manager, a server runs in a thread.

    Args:
        teacher: a network, a `kdlight.teachers.Teacher`, or a `ServedTeacher`.
        limits: what one request may ask for.
        host: address to listen on. Another one than 127.0.0.1 needs a token.
        port: 0 for a free one.
        token_variable: name of the environment variable with the token that clients send.

    Attributes:
        url: the address, with the port that is used.

    Raises:
        ValueError: the teacher cannot be served; the variable of the token is empty, or is needed;
            the port is none.
        OSError: the server cannot listen on this address.

    Example:
        >>> import torch
        >>> from kdlight import SingleInput
        >>> network = SingleInput(torch.nn.Embedding(9, 9), key="input_ids")
        >>> with TeacherServer(network) as server:
        ...     server.url.rpartition(":")[0]
        'http://127.0.0.1'
    """

    def __init__(
        self,
        teacher: Any,
        *,
        limits: Limits | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        token_variable: str | None = None,
    ) -> None:
        check_integer("port", port, 0, 65535)
        token = find_token(host, token_variable)
        served = teacher if isinstance(teacher, ServedTeacher) else ServedTeacher(teacher)
        limits = limits or Limits()
        self._tried = threading.Event()
        self._on_ready: Callable[[str], None] = lambda url: None
        self._thread = threading.Thread(target=self._serve, name="server", daemon=True)
        self.worker = Worker(served, queue=limits.queue, on_ready=self._after_loading)
        app = ServerApp(self.worker, limits, token=token, is_stopping=lambda: self._is_stopping)
        config = uvicorn.Config(
            app.starlette,
            log_level="warning",
            log_config=None,  # neither tokens nor addresses of clients are written
            access_log=False,
            lifespan="off",
            ws="none",
            http="h11",
            loop="asyncio",
            timeout_keep_alive=60,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._uvicorn = uvicorn.Server(config)
        self._socket = _listen(host, port)
        self.url = _url(self._socket)

    def run(self, on_ready: Callable[[str], None] = lambda url: None) -> None:
        """Serve until SIGINT, SIGTERM or `stop`.

        Args:
            on_ready: called with the URL, when requests are answered.

        Raises:
            ValueError: the teacher does not answer on tokens alone.
        """
        self._on_ready = on_ready
        with self._signals():
            self._serve()
        self._raise_error()

    def stop(self) -> None:
        """Answer the requests that run, and end."""
        self._uvicorn.should_exit = True

    @property
    def _is_stopping(self) -> bool:
        return self._uvicorn.should_exit

    def _serve(self) -> None:
        self.worker.start()
        try:
            self._uvicorn.run([self._socket])
        finally:
            self.worker.stop()
            self._socket.close()

    def _after_loading(self) -> None:
        self._tried.set()
        if self.worker.error is None:
            self._on_ready(self.url)
        else:
            self.stop()

    def _raise_error(self) -> None:
        if self.worker.error is not None:
            raise self.worker.error

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop at a signal. The server sends those that it got once more when it ends."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {each: signal.signal(each, lambda *_: self.stop()) for each in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def __enter__(self) -> Self:
        self._thread.start()
        self._tried.wait()
        if self.worker.error is not None:
            self._thread.join()
        self._raise_error()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()
        self._thread.join()


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; its queue holds clients that come while a teacher loads."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen()
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise OSError(
            f"cannot listen on {host}:{port}: {error}; choose another port (0 for a free one) or"
            " host"
        ) from error
    return made


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
