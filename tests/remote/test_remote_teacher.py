"""A served teacher gives the loss and the gradient of a local one."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import CachedTeacher, FrozenTeacher, RemoteTeacher, TeacherEnsemble, TopK
from kdlight.cache import cache_teacher
from kdlight.endpoints import ServerError
from kdlight.objectives import OBJECTIVES, TokenObjective, TopKReverseKL, build_objective
from tests.support.http_server import Reply, http_server
from tests.support.served_fit import (
    VOCABULARY,
    Rows,
    batch,
    causal_lm,
    fit,
    largest_difference,
    loss_and_gradient,
    module,
    served,
    trainer,
)

OTHER_LAWS = {
    "sampled_reverse_kl": "its labels are drawn from the student",
    "mean_squared_error": "it compares logits, of which log-probabilities do not have the level",
}
TOKEN_OBJECTIVES = sorted(
    name
    for name, kind in OBJECTIVES.items()
    if issubclass(kind, TokenObjective)
    and name not in OTHER_LAWS
    and "teacher" in build_objective(name).needs
)


@pytest.fixture(scope="module")
def network() -> Any:
    return causal_lm()


@pytest.fixture(scope="module")
def url(network: Any) -> Iterator[str]:
    with served(network) as address:
        yield address


@pytest.fixture(scope="module")
def states_url(network: Any) -> Iterator[str]:
    with served(network, states="float32") as address:
        yield address


@pytest.fixture(scope="module")
def cache(network: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[int | None, str]:
    """Caches of the same rows, with 5 tokens and with all."""
    folders = {}
    for k in (5, None):
        folder = str(tmp_path_factory.mktemp("cache") / "of")
        quiet = trainer(tmp_path_factory.mktemp("run"))
        cache_teacher(network, [batch()], folder, k=k, bits=32, trainer=quiet)
        folders[k] = folder
    return folders


def top(teacher: RemoteTeacher, rows: Any) -> TopK:
    answer = teacher(rows)
    assert isinstance(answer, TopK)
    return answer


def same(one: Any, other: Any, atol: float = 1e-6) -> None:
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=atol, check_dtype=False)
    assert one[1].keys() == other[1].keys()
    for name, grad in one[1].items():
        torch.testing.assert_close(grad, other[1][name], rtol=0, atol=atol)


def test_the_law_is_about_all_token_objectives() -> None:
    """Those that are left out have a reason, and exist."""
    assert set(OTHER_LAWS) <= set(OBJECTIVES)
    assert {"forward_kl", "taid", "bdkd", "dackl", "topk_reverse_kl"} <= set(TOKEN_OBJECTIVES)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", TOKEN_OBJECTIVES)
def test_the_law(
    name: str, chunked: Any, network: Any, url: str, states_url: str, cache: Any
) -> None:
    """Live = cached = served = served states with all tokens; cached = served with a few."""
    rows, options = batch(), {"chunked": chunked}
    live = loss_and_gradient(FrozenTeacher(network), name, rows, **options)
    others = {
        "cached": CachedTeacher(cache[None]),
        "served": RemoteTeacher(url, k=None),
        "states": RemoteTeacher(states_url, states=True),
    }
    for teacher in others.values():
        same(loss_and_gradient(teacher, name, rows, **options), live)
    cached = loss_and_gradient(CachedTeacher(cache[5]), name, rows, **options)
    same(loss_and_gradient(RemoteTeacher(url, k=5), name, rows, **options), cached)


def test_the_answer_is_the_top_k(network: Any, url: str) -> None:
    rows = batch()
    inside = rows["attention_mask"].bool()
    live = FrozenTeacher(network)(rows).logits()
    wanted = TopK.of(live, 7)
    teacher = RemoteTeacher(url, k=7)
    answer = teacher(rows)
    assert isinstance(answer, TopK)
    order = answer.log_probs.argsort(-1, descending=True)
    torch.testing.assert_close(answer.ids.gather(-1, order)[inside], wanted.ids[inside])
    values = answer.log_probs.gather(-1, order)[inside]
    torch.testing.assert_close(values, wanted.log_probs[inside], rtol=0, atol=1e-6)
    assert answer.log_tail is not None
    assert wanted.log_tail is not None
    torch.testing.assert_close(answer.log_tail[inside], wanted.log_tail[inside], rtol=0, atol=1e-6)
    assert bool(answer.log_tail[~inside].isnan().all())
    assert (teacher.vocab_size, teacher.context_length) == (VOCABULARY, 256)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(side: str, url: str) -> None:
    teacher, row = RemoteTeacher(url, k=5), torch.tensor([[7, 8, 9, 10]])
    alone = top(teacher, {"input_ids": row, "attention_mask": torch.ones_like(row)})
    pad, ones = torch.zeros(1, 3, dtype=torch.long), torch.ones_like(row)
    parts = ([pad, row], [pad, ones]) if side == "left" else ([row, pad], [ones, pad])
    padded = top(
        teacher, {"input_ids": torch.cat(parts[0], 1), "attention_mask": torch.cat(parts[1], 1)}
    )
    at = slice(3, None) if side == "left" else slice(0, 4)
    torch.testing.assert_close(padded.ids[:, at], alone.ids)
    torch.testing.assert_close(padded.log_probs[:, at], alone.log_probs)


@pytest.mark.parametrize("max_tokens", [1, 20, 10_000])
@pytest.mark.parametrize("requests", [1, 3])
def test_how_rows_are_divided_changes_nothing(max_tokens: int, requests: int, url: str) -> None:
    rows, whole = batch(8), top(RemoteTeacher(url, k=5), batch(8))
    teacher = RemoteTeacher(url, k=5, max_tokens=max_tokens, requests=requests)
    torch.testing.assert_close(top(teacher, rows).log_probs, whole.log_probs)
    torch.testing.assert_close(top(teacher, rows).ids, whole.ids)


def test_a_temperature_is_that_of_a_live_teacher(network: Any, url: str, states_url: str) -> None:
    rows = batch()
    live = loss_and_gradient(FrozenTeacher(network, temperature=2.0), "forward_kl", rows)
    for teacher in (
        RemoteTeacher(url, k=None, temperature=2.0),
        RemoteTeacher(states_url, states=True, temperature=2.0),
    ):
        same(loss_and_gradient(teacher, "forward_kl", rows), live)


def test_the_student_chooses_the_tokens(network: Any, url: str) -> None:
    rows = batch()
    student = torch.randn(*rows["input_ids"].shape, VOCABULARY)
    labels = rows["labels"][:, 1:]
    aligned = torch.nn.functional.pad(labels, (0, 1), value=-100)
    teacher = RemoteTeacher(url, k=4, tokens="student")
    assert teacher.needs_student
    answer = teacher.answer(rows, student, aligned)
    assert isinstance(answer, TopK)
    live = FrozenTeacher(network)(rows).logits().log_softmax(-1)
    valid = aligned != -100
    chosen = student.topk(4, -1).indices.sort(-1).values
    assert torch.equal(answer.ids[valid], chosen[valid])
    wanted = live.gather(-1, chosen)
    torch.testing.assert_close(answer.log_probs[valid], wanted[valid], rtol=0, atol=1e-6)
    assert answer.log_tail is not None
    rest = torch.log1p(-wanted.exp().sum(-1))
    torch.testing.assert_close(answer.log_tail[valid], rest[valid], rtol=0, atol=1e-5)
    # in evaluation they are the teacher's own
    torch.testing.assert_close(top(teacher, rows).ids, top(RemoteTeacher(url, k=4), rows).ids)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_the_reverse_kl_over_the_students_tokens_is_the_live_one(
    k: int, network: Any, url: str
) -> None:
    results = []
    for teacher in (FrozenTeacher(network), RemoteTeacher(url, k=k, tokens="student")):
        made = module(teacher)
        made.objective = TopKReverseKL(k=k)
        made.train()
        loss = made.objective(made.loss_inputs(batch())).mean()
        loss.backward()
        results.append((loss.detach(), {n: p.grad for n, p in made.named_parameters()}))
    same(*results)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("prefetch", [True, False])
def test_a_fit_is_the_live_fit(
    accumulate: int, prefetch: bool, network: Any, url: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"accumulate_grad_batches": accumulate, "max_epochs": 2}
    live = fit(FrozenTeacher(network), tmp_path, **options)
    remote = fit(RemoteTeacher(url, k=None, prefetch=prefetch), tmp_path, **options)
    assert largest_difference(live, remote) < 1e-6


def test_each_row_is_asked_about_once(network: Any, tmp_path: Path) -> None:
    """The next batch is asked about early, and not again when it is trained on."""
    from kdlight.serve import Limits, ServedTeacher, TeacherServer

    with TeacherServer(ServedTeacher(network), limits=Limits(k=None)) as server:
        fit(RemoteTeacher(server.url, k=5, requests=1), tmp_path)
        told = RemoteTeacher(server.url).endpoints[0].get("/metrics").text
    tokens = sum(len(row) for row in Rows().rows)
    counted = [line for line in told.splitlines() if line.startswith("kdlight_positions_total ")]
    assert [float(line.split()[-1]) for line in counted] == [tokens]


def test_several_servers_are_asked_by_turns(network: Any, url: str) -> None:
    with served(network) as second:
        teacher = RemoteTeacher([url, second], k=5, requests=1)
        expected = top(RemoteTeacher(url, k=5), batch())
        before = [each.received for each in teacher.endpoints]
        for _ in range(2):
            torch.testing.assert_close(top(teacher, batch()).log_probs, expected.log_probs)
        after = [each.received for each in teacher.endpoints]
        assert all(a > b for a, b in zip(after, before, strict=True))


def test_another_server_answers_for_one_that_is_gone(network: Any, url: str) -> None:
    with served(network) as second:
        teacher = RemoteTeacher([second, url], k=5, retries=0)
        expected = top(teacher, batch())
    torch.testing.assert_close(top(teacher, batch()).log_probs, expected.log_probs)


def test_rows_name_their_teacher(network: Any, url: str) -> None:
    other = causal_lm(seed=9)
    rows: dict[str, Any] = {**batch(), "domain": ["b", "a", "b", "a"]}
    with served(other) as second:
        ensemble = TeacherEnsemble(
            {"a": RemoteTeacher(url, k=None), "b": RemoteTeacher(second, k=None)},
            route_by="domain",
        )
        live = TeacherEnsemble({"a": network, "b": other}, route_by="domain")
        assert ensemble.is_remote
        assert not live.is_remote
        ensemble.expect(rows)
        same(
            loss_and_gradient(ensemble, "forward_kl", rows),
            loss_and_gradient(live, "forward_kl", rows),
        )


def test_an_average_has_served_teachers(network: Any, url: str) -> None:
    other, rows = causal_lm(seed=9), batch()
    with served(other) as second:
        both = {"a": RemoteTeacher(url, k=None), "b": RemoteTeacher(second, k=None)}
        same(
            loss_and_gradient(TeacherEnsemble(both), "reverse_kl", rows),
            loss_and_gradient(TeacherEnsemble({"a": network, "b": other}), "reverse_kl", rows),
        )


def test_a_common_vocabulary_is_smaller(network: Any, url: str, states_url: str) -> None:
    """A teacher of 102 tokens, of which student and teacher have 100 in common."""
    rows = batch()
    rows = {**rows, "input_ids": rows["input_ids"].clamp(max=99)}
    rows["labels"] = rows["labels"].clamp(max=99)
    live = loss_and_gradient(FrozenTeacher(network, vocab_size=100), "forward_kl", rows)
    states = RemoteTeacher(states_url, states=True, vocab_size=100)
    same(loss_and_gradient(states, "forward_kl", rows), live)
    # of all but two tokens the two that are left out may be asked for: to 2 tokens' rounding
    top = loss_and_gradient(RemoteTeacher(url, k=None, vocab_size=100), "forward_kl", rows)
    torch.testing.assert_close(top[0], live[0], rtol=0, atol=0.05, check_dtype=False)


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": []}, "url must have at least one"),
        ({"url": "localhost:80"}, "url must be an address"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"dialect": "grpc"}, "dialect must be one of"),
        ({"tokens": "both"}, "tokens must be one of"),
        ({"temperature": 0.0}, "temperature must be"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"requests": 0}, "requests must be at least 1"),
        ({"vocab_size": 0}, "vocab_size must be at least 1"),
        ({"tail": "none"}, "tail must be one of"),
        ({"token_variable": "a-b"}, "token_variable must be the name"),
        ({"states": True, "tokens": "student"}, "states=True gives the logits"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RemoteTeacher(**{"url": "http://localhost:1", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 9}, "k is 9, but .* returns at most 5 .*--k 9"),
        ({"k": None}, "k is 102, but .* returns at most 5"),
        ({"k": 5, "states": True}, "states=True needs a server .*--states"),
        ({"k": 5, "model": "another"}, "model is 'another', but"),
        ({"k": 5, "vocab_size": 200}, "vocab_size is 200, but .* has 102 tokens"),
        ({"k": 5, "dialect": "vllm", "retries": 0}, "status 404"),
    ],
)
def test_what_a_server_cannot_do_is_told_before_training(
    options: dict[str, Any], message: str, network: Any, tmp_path: Path
) -> None:
    with (
        served(network, k=5) as address,
        pytest.raises((ValueError, ServerError), match=message),
    ):
        fit(RemoteTeacher(address, **options), tmp_path)


def test_other_batches_are_refused(url: str) -> None:
    teacher, ids = RemoteTeacher(url, k=5), torch.tensor([[3, 4, 5, 6]])
    with pytest.raises(TypeError, match="a batch must be a mapping"):
        teacher(ids)
    with pytest.raises(ValueError, match=r"reads token ids only, but .*\['pixel_values'\]"):
        teacher({"input_ids": ids, "pixel_values": torch.zeros(1, 3, 2, 2)})
    with pytest.raises(ValueError, match="zeros between its tokens"):
        teacher({"input_ids": ids, "attention_mask": torch.tensor([[1, 0, 1, 1]])})
    with pytest.raises(ValueError, match="position_ids do not count"):
        teacher({"input_ids": ids, "position_ids": torch.tensor([[0, 1, 0, 1]])})
    with pytest.raises(ValueError, match="token id 102, but the served teacher has 102 tokens"):
        teacher({"input_ids": torch.tensor([[3, 102]])})
    with pytest.raises(
        ValueError, match="has 300 tokens, but the served teacher takes at most 256"
    ):
        teacher({"input_ids": torch.full((1, 300), 3)})


def test_position_ids_that_count_are_accepted(url: str) -> None:
    ids = torch.tensor([[3, 4, 5, 6]])
    plain = top(RemoteTeacher(url, k=5), {"input_ids": ids})
    counted = {"input_ids": ids, "position_ids": torch.arange(4)[None]}
    counted = top(RemoteTeacher(url, k=5), counted)
    torch.testing.assert_close(plain.log_probs, counted.log_probs)


def test_no_server_is_one_error(tmp_path: Path) -> None:
    with http_server(lambda *_: Reply("ok")) as gone:
        address = gone.url
    with pytest.raises(ServerError, match="did not answer what it serves"):
        fit(RemoteTeacher(address, retries=1), tmp_path)


def test_what_is_no_server_of_a_teacher_is_told(tmp_path: Path) -> None:
    with (
        http_server(lambda *_: Reply(b"<html>hello</html>")) as other,
        pytest.raises(ServerError, match="speaks none of the dialects"),
    ):
        fit(RemoteTeacher(other.url, retries=1), tmp_path)


# ---- life


def test_a_teacher_is_copied_and_pickled(url: str) -> None:
    teacher = RemoteTeacher(url, k=5)
    expected = top(teacher, batch())
    assert deepcopy(teacher) is teacher
    torch.testing.assert_close(top(pickle.loads(pickle.dumps(teacher)), batch()).ids, expected.ids)
    teacher.release()
    torch.testing.assert_close(top(teacher, batch()).ids, expected.ids)
    teacher.release()


def test_the_wait_is_measured(url: str) -> None:
    teacher = RemoteTeacher(url, k=5)
    teacher(batch())
    assert 0 < teacher.metrics()["teacher/wait"] < 5
    teacher.expect(batch(6))
    time.sleep(0.5)
    teacher(batch(6))
    assert teacher.metrics()["teacher/wait"] < 0.2


def test_rows_without_a_valid_position_are_not_asked_about(url: str) -> None:
    rows: dict[str, Tensor] = batch()
    rows["labels"][1] = -100
    answer = RemoteTeacher(url, k=5)(rows)
    assert isinstance(answer, TopK)
    assert answer.log_tail is not None
    assert bool(answer.log_tail[1].isnan().all())


def test_aligned_labels_are_those_of_the_local_teacher(network: Any, url: str) -> None:
    """Labels at the logits that predict them, also at the first position alone, and at the last."""
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    labels = torch.full_like(ids, -100)
    labels[0, 0], labels[1, 3] = 4, 5
    rows, options = {"input_ids": ids, "labels": labels}, {"labels": "aligned"}
    same(
        loss_and_gradient(RemoteTeacher(url, k=None), "forward_kl", rows, **options),
        loss_and_gradient(FrozenTeacher(network), "forward_kl", rows, **options),
    )


def test_a_position_that_a_server_does_not_score_is_told() -> None:
    from tests.remote.recordings import Recording, replayed

    recorded = Recording("vllm_0.32.0.json")
    ids = torch.tensor([recorded["scores"]["request"]["prompt"][0]])
    recorded["scores"]["request"]["prompt"] = [ids[0].tolist()]
    recorded["scores"]["answer"]["choices"] = recorded["scores"]["answer"]["choices"][:1]
    with http_server(replayed(recorded, limits=(VOCABULARY, 64))) as server:
        teacher = RemoteTeacher(server.url, k=5, retries=0)
        teacher.options.__dict__["open"] = lambda endpoints: unchecked(endpoints)
        teacher.check_labels("aligned", -100)
        with pytest.raises(ValueError, match="no log-probabilities for position 5 of row 0"):
            teacher({"input_ids": ids, "labels": ids})


def unchecked(endpoints: Any) -> Any:
    """What asks a replayed server, which would not survive being tried."""
    from kdlight.remote.connection import connect
    from kdlight.remote.questions import Questions

    found = connect(endpoints, "vllm", None)
    return Questions(found, k=5, states=False, requests=1, max_tokens=100)


def test_requests_are_as_small_as_the_server_wants(network: Any) -> None:
    from kdlight.serve import Limits, ServedTeacher, TeacherServer

    rows = batch(8)
    for limits in (Limits(k=None, max_tokens=16), Limits(k=None, entries=14 * VOCABULARY)):
        with TeacherServer(ServedTeacher(network), limits=limits) as server:
            answer = top(RemoteTeacher(server.url, k=None), rows)
            mask = rows["attention_mask"].bool()
            live = FrozenTeacher(network)(rows).logits().log_softmax(-1)
            torch.testing.assert_close(answer.logits()[mask], live[mask], rtol=0, atol=1e-5)


def test_the_student_chooses_the_tokens_of_routed_teachers(network: Any, url: str) -> None:
    rows: dict[str, Any] = {**batch(), "domain": ["b", "a", "b", "a"]}
    student = torch.randn(*rows["input_ids"].shape, VOCABULARY)
    with served(causal_lm(seed=9)) as second:
        each = {"a": url, "b": second}
        options: dict[str, Any] = {"k": 4, "tokens": "student"}
        routed = TeacherEnsemble(
            {name: RemoteTeacher(where, **options) for name, where in each.items()},
            route_by="domain",
        )
        found = routed.answer(rows, student).given_student(student.flatten(0, 1))
        for name, where in each.items():
            alone = RemoteTeacher(where, **options).answer(batch(), student)
            wanted = alone.given_student(student).flatten(0, 1)
            own = torch.tensor([domain == name for domain in rows["domain"]])
            mask = (rows["attention_mask"].bool() & own[:, None]).flatten()
            torch.testing.assert_close(found[mask], wanted[mask])


def test_a_token_is_in_no_file_of_a_run(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    from kdlight.serve import TeacherServer

    secret = "t0ken-of-the-teacher"
    monkeypatch.setenv("TEACHER_TOKEN", secret)
    with TeacherServer(network, token_variable="TEACHER_TOKEN") as server:
        monkeypatch.setenv("WRONG_TOKEN", "another")
        with pytest.raises(ServerError, match="variable WRONG_TOKEN"):
            fit(RemoteTeacher(server.url, token_variable="WRONG_TOKEN"), tmp_path)
        fit(
            RemoteTeacher(server.url, token_variable="TEACHER_TOKEN"),
            tmp_path,
            enable_checkpointing=True,
            callbacks=[ModelCheckpoint(tmp_path)],
            logger=CSVLogger(tmp_path),
        )
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".ckpt" for path in written)
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    assert secret not in caplog.text
