"""A real vLLM server over a student that kdlight exported, for tests marked ``vllm``.

The server has an environment of its own, which ``make vllm`` sets up. All tests of a session share
one server, so that a test that changes its weights must give them back, see `restored`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-vllm/bin/python"
NAME = "student"
CONTEXT = 128
MAX_LOGPROBS = 64
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_SERVER_DEV_MODE": "1",
}
SECONDS = 300
"""How long a server may take to start; 20 to 90 seconds are usual."""


@dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Attributes:
        url: its address.
        folder: the exported student that it was started with, with its tokenizer.
        name: the name of the model.
    """

    url: str
    folder: Path
    name: str = NAME


def export_student(folder: Path, *, seed: int = 0) -> Path:
    """Export a tiny student with its tokenizer, as kdlight does."""
    from kdlight import CausalLM
    from tests.support import tiny_lm

    student = CausalLM.wrap(tiny_lm.model(dim=64, seed=seed))
    student.save_pretrained(folder, tokenizer=tiny_lm.tokenizer(chat=True))
    return folder


@contextmanager
def run_vllm(
    folder: Path, log: Path, *options: str, port: int = 0, adapters: bool = True
) -> Iterator[RunningServer]:
    """Serve the model of a folder until the end of the context.

    Args:
        folder: the model.
        log: where the server writes.
        *options: further options of the server.
        port: 0 for a free one.
        adapters: whether it can load LoRA adapters. vLLM 0.32.0 on a CPU then ends at a request
            with ``prompt_logprobs``.
    """
    port = port or free_port()
    command = [
        *(str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--enable-scale-out"),
        *("--model", str(folder), "--served-model-name", NAME, "--dtype", "float32"),
        *("--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(CONTEXT)),
        *("--max-logprobs", str(MAX_LOGPROBS), "--max-num-seqs", "8", "--enforce-eager"),
        *(("--enable-lora", "--max-lora-rank", "8") if adapters else ()),
        *options,
    ]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the engine is a process of its own
        )
        try:
            _wait(process, f"http://127.0.0.1:{port}", log)
            yield RunningServer(f"http://127.0.0.1:{port}", folder)
        finally:
            stop(process)


def free_port() -> int:
    """Return a port that nothing uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def stop(process: subprocess.Popen) -> None:
    """End a server with the processes that it started."""
    for kind, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        break
    else:
        raise TimeoutError("the server does not end")


def _wait(process: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"vLLM does not answer at {url}; it wrote:\n{log.read_text()[-3000:]}")


@contextmanager
def restored(server: RunningServer) -> Iterator[RunningServer]:
    """Give a server the weights back that it was started with, at the end of the context."""
    from kdlight.endpoints import Endpoint
    from kdlight.rollouts.vllm_server import ADAPTER, VLLMServer

    try:
        yield server
    finally:
        endpoint = Endpoint(server.url, retries=2)
        requests = VLLMServer(endpoint)
        requests.load(server.folder)
        requests.label("default")
        names = [each["id"] for each in endpoint.get("/v1/models").json()["data"]]
        if ADAPTER in names:
            endpoint.post("/v1/unload_lora_adapter", json={"lora_name": ADAPTER})
        endpoint.post("/reset_prefix_cache")
        endpoint.close()


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server over a tiny student; the test is skipped where vLLM is not installed."""
    if not PYTHON.exists():
        pytest.skip("needs `make vllm`")
    folder = tmp_path_factory.mktemp("vllm")
    with run_vllm(export_student(folder / "student"), folder / "server.log") as server:
        yield server
