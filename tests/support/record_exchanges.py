"""Record what a real vLLM server answers, for the tests of a client that have no server.

The recordings are in ``tests/remote/recordings``. After ``make vllm``, this makes them again::

    python -m tests.support.record_exchanges

The server runs the student of `tests.support.vllm_server.export_student`, whose log-probabilities
any machine can compute again.
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.vllm_server import MAX_LOGPROBS, NAME, ROOT, export_student, run_vllm

FOLDER = ROOT / "tests/remote/recordings"
PROMPTS = [[3, 14, 15, 92, 65, 35], [27, 18, 28, 18, 28, 45, 90, 45, 23]]
K = 5


def requests() -> dict[str, tuple[str, Any]]:
    """Return the path and the body of each request, by what it is an example of."""
    scored = {
        "model": NAME,
        "prompt": PROMPTS,
        "max_tokens": 1,
        "prompt_logprobs": K,
        "temperature": 1.0,
        "return_token_ids": True,
    }
    parameters = {"max_tokens": 1, "temperature": 1.0}
    one = {"model": NAME, "token_ids": PROMPTS[0]}
    return {
        "version": ("/version", None),
        "models": ("/v1/models", None),
        "weights": ("/weight_info", None),
        "scores": ("/v1/completions", scored),
        "scores of one token": ("/v1/completions", {**scored, "prompt": [[7]]}),
        "refused k": ("/v1/completions", {**scored, "prompt_logprobs": MAX_LOGPROBS + 1}),
        "wrong model": ("/v1/completions", {**scored, "model": "another"}),
        "id out of range": ("/v1/completions", {**scored, "prompt": [[3, 5000]]}),
        "too long": ("/v1/completions", {**scored, "prompt": [[3] * 1000]}),
        "scores by ids": (
            "/inference/v1/generate",
            {**one, "sampling_params": {**parameters, "prompt_logprobs": K}},
        ),
        "text": (
            "/inference/v1/generate",
            {**one, "sampling_params": {"max_tokens": 6, "temperature": 0.0, "ignore_eos": True}},
        ),
    }


def exchange(url: str, path: str, body: Any) -> dict[str, Any]:
    """Return a request with its answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers)) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    return {
        "method": "GET" if body is None else "POST",
        "path": path,
        "request": body,
        "status": status,
        "answer": json.loads(text),
    }


def main(folder: Path) -> Path:
    """Write the recordings of the server that is installed; return the file."""
    with tempfile.TemporaryDirectory() as made:
        student = export_student(Path(made) / "student")
        with run_vllm(student, Path(made) / "server.log", adapters=False) as server:
            found = {}
            for name, (path, body) in requests().items():
                try:
                    found[name] = exchange(server.url, path, body)
                except OSError as error:
                    log = (Path(made) / "server.log").read_text()
                    raise RuntimeError(f"no answer to {name!r}; the server:\n{log}") from error
        text = json.dumps(found, indent=1).replace(str(student), "/models/student")
    version = found["version"]["answer"]["version"]
    about = f"made by python -m tests.support.record_exchanges with vLLM {version} on a CPU"
    path = folder / f"vllm_{version}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": about, "exchanges": json.loads(text)}, indent=1) + "\n")
    return path


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
