"""A small server that answers like vLLM to the requests of a rollout, over a model of a folder.

It is started in a thread with `serve`, or as a process of its own, which a test can kill::

    python -m tests.support.token_server FOLDER PORT
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass
class TokenServer:
    """The state of the server, which a test may read and change.

    Attributes:
        folder: where the model is read from.
        name: its name.
        labeled: whether it keeps a label of its weights.
        adapters: whether it can load adapters.
        developer: whether it has the requests for weights and labels; texts have labels anyway.
        caches: whether it uses what it computed for other texts of one salt that begin alike, even
            if it has got other weights since.
        fault: called with a request of a text and its number; a response that it returns is the
            answer.
        asked: the body of each request of a text.
        loaded: what was loaded, in order.
    """

    folder: Path
    name: str = "student"
    context: int = 256
    labeled: bool = True
    adapters: bool = False
    developer: bool = True
    caches: bool = False
    fault: Callable[[TokenServer, dict[str, Any], int], Response | None] | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    version: str = "default"
    url: str = ""

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.restart()

    def restart(self) -> None:
        """Return to the weights and the label of the start."""
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(self.folder).eval()
        self.adapted: Any = None
        self.version = "default"
        self.cached: dict[Any, Any] = {}

    def load(self, folder: str) -> None:
        from safetensors.torch import load_file

        self.model.load_state_dict(load_file(Path(folder) / "model.safetensors"), strict=False)
        self.loaded.append(folder)

    def load_adapter(self, folder: str) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(self.folder)
        self.adapted = PeftModel.from_pretrained(base, folder).eval()
        self.loaded.append(folder)

    @torch.no_grad()
    def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        options, ids = body["sampling_params"], list(body["token_ids"])
        model = self.model if body["model"] == self.name else self.adapted
        scores = None
        if options.get("prompt_logprobs") is not None:
            rows = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
            scores = [None] + [
                {str(token): {"logprob": rows[at, token].item(), "rank": 1}}
                for at, token in enumerate(ids[1:])
            ]
        elif self.caches:
            key = (body["model"], body.get("cache_salt"), ids[0])
            with self.lock:
                model = self.cached.setdefault(key, deepcopy(model))
        new, ends = [], options.get("stop_token_ids", [])
        generator = torch.Generator().manual_seed(options.get("seed", 0))
        reason = "length"
        while len(new) < options["max_tokens"]:
            logits = model(torch.tensor([ids + new])).logits[0, -1].clone()
            for token, bias in options.get("logit_bias", {}).items():
                logits[int(token)] += bias
            new.append(draw(logits, options, generator))
            if new[-1] in ends:
                reason = "stop"
                break
        choice = {"index": 0, "finish_reason": reason, "token_ids": new}
        if self.labeled:
            choice["weight_versions"] = [{"version": self.version, "start": 0, "end": len(new)}]
        return {"choices": [choice], "prompt_logprobs": scores}

    # ---- requests

    async def on_generate(self, request: Request) -> Response:
        body = await request.json()
        with self.lock:
            self.asked.append(body)
            number = len(self.asked) - 1
        if self.fault is not None:
            answer = await run_in_threadpool(self.fault, self, body, number)
            if answer is not None:
                return answer
        if body["model"] != self.name and self.adapted is None:
            text = f"The model `{body['model']}` does not exist."
            return JSONResponse({"error": {"message": text}}, 404)
        return JSONResponse(await run_in_threadpool(self.generate, body))

    async def on_version(self, request: Request) -> Response:
        return JSONResponse({"version": "0.0 (a test)"})

    async def on_models(self, request: Request) -> Response:
        model = {"id": self.name, "root": str(self.folder), "max_model_len": self.context}
        return JSONResponse({"data": [{**model, "parent": None}]})

    async def on_label(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse({"weight_version": self.version})
        self.version = (await request.json())["new_version"]
        return JSONResponse({"success": True})

    async def on_checksum(self, request: Request) -> Response:
        sums = {
            name: value.double().sum().item() for name, value in self.model.state_dict().items()
        }
        return JSONResponse({"checksums": sums})

    async def on_load(self, request: Request) -> Response:
        body = await request.json()
        assert body["method"] == "reload_weights"
        self.load(body["kwargs"]["weights_path"])
        return JSONResponse({"results": [None]})

    async def on_adapter(self, request: Request) -> Response:
        self.load_adapter((await request.json())["lora_path"])
        return Response()

    def app(self) -> Starlette:
        routes = [
            Route("/version", self.on_version),
            Route("/v1/models", self.on_models),
            Route("/inference/v1/generate", self.on_generate, methods=["POST"]),
        ]
        if self.developer:
            routes.append(Route("/collective_rpc", self.on_load, methods=["POST"]))
            routes.append(Route("/weight_checker", self.on_checksum, methods=["POST"]))
        if self.labeled and self.developer:
            routes.append(Route("/weight_info", self.on_label))
            routes.append(Route("/update_weight_version", self.on_label, methods=["POST"]))
        if self.adapters:
            routes.append(Route("/v1/load_lora_adapter", self.on_adapter, methods=["POST"]))
        return Starlette(routes=routes)


def draw(logits: torch.Tensor, options: dict[str, Any], generator: torch.Generator) -> int:
    """Return a token, as `kdlight.models.Sampling` describes it, for top_p of 1."""
    if options["temperature"] == 0:
        return int(logits.argmax())
    weights = torch.softmax(logits / options["temperature"], -1)
    return int(torch.multinomial(weights, 1, generator=generator))


@contextmanager
def serve(folder: Path | str, **options: Any) -> Iterator[TokenServer]:
    """Serve the model of a folder from a thread."""
    state = TokenServer(Path(folder), **options)
    config = uvicorn.Config(state.app(), host="127.0.0.1", port=0, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    state.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        server.should_exit = True
        thread.join(timeout=10)


if __name__ == "__main__":
    torch.set_num_threads(1)
    uvicorn.run(
        TokenServer(Path(sys.argv[1])).app(),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        log_level="error",
        ws="none",
    )
