"""Faults between a client and a server: no wrong row, no hang, each survived or one clear error.

A real proxy stands between a `kdlight.remote.RemoteTeacher` and a real server. The list of faults
is enumerated, `test_there_are_enough_faults` counts it. What no client can notice is not in it: a
digit of a number in JSON that is another digit, and a server that mixes up its rows but not their
tokens. Answers of ``kdlight serve`` have a checksum.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.endpoints import RequestRefused, ServerError
from kdlight.remote import RemoteTeacher
from kdlight.sources import TopK
from tests.support import connection_faults, served, vllm_like
from tests.support.fault_cases import BOTH, CASES, PLACES, REFUSED, Case, named
from tests.support.faulty_json import exchange_numbers, json_fault
from tests.support.faulty_proxy import Proxy, faulty_proxy
from tests.support.faulty_scores import flip

K, TIMEOUT, MOST_SECONDS = 5, 1.0, 15.0


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, str]]:
    with vllm_like.vllm_like() as vllm, served.server() as kdlight:
        yield {"vllm": vllm.url, "kdlight": kdlight.url}


@pytest.fixture(scope="module")
def proxied(upstreams: dict[str, str]) -> Iterator[dict[str, Proxy]]:
    with faulty_proxy(upstreams["vllm"]) as vllm, faulty_proxy(upstreams["kdlight"]) as kdlight:
        yield {"vllm": vllm, "kdlight": kdlight}


def batch(seed: int = 0) -> dict[str, Tensor]:
    """Three rows of different tokens and lengths, padded."""
    lengths = torch.tensor([6, 9, 7])
    drawn = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 40, (3, 9), generator=drawn)
    mask = torch.arange(9) < lengths[:, None]
    return {
        "input_ids": ids * mask,
        "attention_mask": mask.long(),
        "labels": ids.masked_fill(~mask, -100),
    }


def teacher(url: str, dialect: str, **options: Any) -> RemoteTeacher:
    settings: dict[str, Any] = {"timeout": TIMEOUT, "retries": 2, "requests": 1, **options}
    made = RemoteTeacher(url, k=K, dialect=dialect, prefetch=False, **settings)
    for endpoint in made.endpoints:
        endpoint.longest_pause = 0.02  # the pauses have tests of their own
    return made


@pytest.fixture(scope="module")
def right(upstreams: dict[str, str]) -> dict[str, TopK]:
    """What the servers answer without a proxy."""
    found = {}
    for dialect, url in upstreams.items():
        each = teacher(url, dialect, timeout=30.0)
        found[dialect] = each.answer(batch())
        each.release()
    return found


def is_same(one: Any, other: Any, *, atol: float = 0.0) -> bool:
    assert isinstance(one, TopK)
    assert isinstance(other, TopK)
    assert one.log_tail is not None
    assert other.log_tail is not None
    pairs = ((one.log_probs, other.log_probs), (one.log_tail, other.log_tail))
    close = [torch.allclose(*pair, rtol=0.0, atol=atol, equal_nan=True) for pair in pairs]
    return torch.equal(one.ids, other.ids) and all(close)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[named(case) for case in CASES])
def test_a_fault_is_survived_or_one_clear_error(
    case: Case, proxied: dict[str, Proxy], right: dict[str, TopK]
) -> None:
    proxy = proxied[case.dialect]
    each = teacher(proxy.url, case.dialect, retries=1 if case.always else 2)
    each.prepare(torch.device("cpu"))  # what the server is was found out before the fault
    before, begin = proxy.injected, time.monotonic()
    if case.always:
        proxy.always = case.fault
    else:
        proxy.faults.append(case.fault)
    try:
        if case.survives:
            assert is_same(each.answer(batch()), right[case.dialect])
        else:
            with pytest.raises(ServerError) as error:
                each.answer(batch())
            check_error(str(error.value), proxy.url, refused=case.name in REFUSED)
            assert isinstance(error.value, RequestRefused) == (case.name in REFUSED)
        assert time.monotonic() - begin < MOST_SECONDS
        assert proxy.injected - before == (2 if case.always else 1)
    finally:
        proxy.clear()
    # and then all is as before
    assert is_same(each.answer(batch()), right[case.dialect])
    each.release()


def check_error(message: str, url: str, *, refused: bool) -> None:
    """It names the server, the request and what to do, in a few lines."""
    assert url in message
    assert "3 sequences" in message
    assert len(message) < 1200
    if not refused:
        assert "after 2 attempts; the last one: " in message
        assert "resume the run from its last checkpoint" in message


def test_there_are_enough_faults() -> None:
    names = [named(case) for case in CASES]
    assert len(set(names)) == len(names) >= 100


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["vllm", "kdlight"])
def test_a_hundred_faults_among_several_requests_at_once(
    dialect: str, proxied: dict[str, Proxy], upstreams: dict[str, str]
) -> None:
    """Each of three requests at the same time meets faults of all kinds, in a seeded order."""
    proxy, chosen = proxied[dialect], random.Random(0)
    bits = [flip(at) for at in PLACES] if dialect == "kdlight" else []
    kinds = [fault for fault in (*BOTH.values(), *bits) if fault is not connection_faults.late]
    quick = [fault for fault in kinds if fault is not connection_faults.slow]
    exact = teacher(upstreams[dialect], dialect, timeout=30.0, requests=3)
    each = teacher(proxy.url, dialect, retries=12, requests=3)
    each.prepare(torch.device("cpu"))
    before = proxy.injected
    for number in range(25):
        proxy.faults.extend(chosen.choices(quick, k=4))
        # requests that come at the same time are scored together, which rounds otherwise
        assert is_same(each.answer(batch(number)), exact.answer(batch(number)), atol=1e-5)
    proxy.clear()
    assert proxy.injected - before >= 90
    each.release()
    exact.release()


def test_another_server_takes_over(
    upstreams: dict[str, str], proxied: dict[str, Proxy], right: dict[str, TopK]
) -> None:
    proxy = proxied["vllm"]
    each = RemoteTeacher(
        [proxy.url, upstreams["vllm"]], k=K, dialect="vllm", retries=0, timeout=TIMEOUT
    )
    each.prepare(torch.device("cpu"))
    proxy.always = connection_faults.closed
    try:
        for _ in range(3):
            assert is_same(each.answer(batch()), right["vllm"])
    finally:
        proxy.clear()
        each.release()


def test_answers_to_rows_that_continue_alike_are_not_exchanged(
    proxied: dict[str, Proxy], upstreams: dict[str, str]
) -> None:
    """The tokens that follow are those of the other row, too, so that they cannot tell."""
    rows = {"input_ids": torch.tensor([[5, 9, 4], [7, 9, 4]])}
    exact, each = (
        teacher(url, "vllm", timeout=30.0) for url in (upstreams["vllm"], proxied["vllm"].url)
    )
    each.prepare(torch.device("cpu"))
    proxied["vllm"].faults.append(json_fault(exchange_numbers))
    assert is_same(each.answer(rows), exact.answer(rows))
    assert not proxied["vllm"].faults
    each.release()
    exact.release()
