"""A real vLLM: the loss and the gradient of a served teacher are those of a local one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import CausalLM, FrozenTeacher, RemoteTeacher, TopK
from kdlight.endpoints import ServerError
from kdlight.models import load_tokenizer
from tests.remote.test_remote_teacher import TOKEN_OBJECTIVES
from tests.support import tiny_lm
from tests.support.served_fit import batch, loss_and_gradient
from tests.support.vllm_server import (
    CONTEXT,
    MAX_LOGPROBS,
    PYTHON,
    RunningServer,
    export_student,
    run_vllm,
)

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

K = 50


@pytest.fixture(scope="module")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    if not PYTHON.exists():
        pytest.skip("needs `make vllm`")
    folder = tmp_path_factory.mktemp("vllm")
    student = export_student(folder / "student")
    with run_vllm(student, folder / "server.log", adapters=False) as server:
        yield server


@pytest.fixture(scope="module")
def network(vllm_server: RunningServer) -> Any:
    return CausalLM(str(vllm_server.folder))


def test_it_tells_what_it_serves(vllm_server: RunningServer, network: Any) -> None:
    teacher = RemoteTeacher(vllm_server.url, k=K)
    info = teacher.info
    assert info.software.startswith("vLLM ")
    assert (info.model, info.vocab_size) == (vllm_server.name, network.vocab_size)
    assert (info.max_k, info.context_length) == (MAX_LOGPROBS, CONTEXT - 1)
    teacher.check_tokenizer(load_tokenizer(str(vllm_server.folder)))


def test_the_answer_is_the_top_k(vllm_server: RunningServer, network: Any) -> None:
    rows = batch(6)
    answer = remote(vllm_server.url, k=K)(rows)
    assert isinstance(answer, TopK)
    assert answer.log_tail is not None
    wanted = TopK.of(FrozenTeacher(network)(rows).logits(), K)
    assert wanted.log_tail is not None
    scored = ~answer.log_tail.isnan()
    last = rows["attention_mask"].sum(-1) - 1
    inside = rows["attention_mask"].bool()
    inside[torch.arange(len(inside)), last] = False  # what follows the last token is not known
    assert torch.equal(scored, inside)
    values = answer.log_probs.sort(-1, descending=True).values
    torch.testing.assert_close(values[scored], wanted.log_probs[scored], rtol=0, atol=1e-3)
    torch.testing.assert_close(answer.log_tail[scored], wanted.log_tail[scored], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", TOKEN_OBJECTIVES)
def test_loss_and_gradient_are_those_of_the_local_teacher(
    name: str, vllm_server: RunningServer, network: Any
) -> None:
    rows = batch(6)
    served = loss_and_gradient(remote(vllm_server.url, k=K), name, rows)
    local = loss_and_gradient(TopTeacher(network), name, rows)
    assert abs(float(served[0] - local[0])) < 1e-3
    grads = [torch.cat([g.flatten() for g in each[1].values()]) for each in (served, local)]
    assert float((grads[0] - grads[1]).norm() / grads[1].norm().clamp(min=1e-12)) < 1e-2


def remote(url: str, **options: Any) -> RemoteTeacher:
    return RemoteTeacher(url, retries=2, **options)


class TopTeacher(FrozenTeacher):
    """The local network, of which the same tokens are known."""

    def answer(self, batch: Any, student: Any = None, labels: Tensor | None = None) -> TopK:
        return TopK.of(super().answer(batch).logits(), K)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": MAX_LOGPROBS + 1}, rf"returns at most {MAX_LOGPROBS} .*--max-logprobs"),
        ({"k": 5, "model": "another"}, "model is 'another', but .*--served-model-name"),
        ({"k": 5, "states": True}, "states=True needs a server"),
        ({"k": 5, "tokens": "student"}, "tokens='student' needs a server"),
    ],
)
def test_what_it_cannot_do_is_told(
    options: dict[str, Any], message: str, vllm_server: RunningServer
) -> None:
    with pytest.raises(ValueError, match=message):
        RemoteTeacher(vllm_server.url, **options).prepare(torch.device("cpu"))


def test_another_dialect_is_told(vllm_server: RunningServer) -> None:
    with pytest.raises(ServerError):
        RemoteTeacher(vllm_server.url, k=5, dialect="kdlight").prepare(torch.device("cpu"))


def test_a_row_that_is_too_long_is_told(vllm_server: RunningServer) -> None:
    ids = torch.full((1, CONTEXT), 3)
    with pytest.raises(ValueError, match="--max-model-len"):
        RemoteTeacher(vllm_server.url, k=5)({"input_ids": ids})


def test_another_tokenizer_is_told(vllm_server: RunningServer, tmp_path: Path) -> None:
    other = tiny_lm.tokenizer()
    teacher = RemoteTeacher(vllm_server.url, k=5)
    teacher.check_tokenizer(other)
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unknown>": 0, "The": 1}, unk_token="<unknown>"))
    with pytest.raises(ValueError, match="has another tokenizer than the data"):
        teacher.check_tokenizer(PreTrainedTokenizerFast(tokenizer_object=words))
