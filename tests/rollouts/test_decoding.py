"""A batch that sequences leave when they are done, with the text that each would have alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.rollouts.decoding import SEGMENT, decode_batch, pad_left, selected_cache
from tests.callbacks.test_on_policy import diverse_llama

CPU = torch.device("cpu")
PREFIXES = [torch.tensor(ids) for ids in ([3, 4, 5, 6, 7], [2], [8, 9, 1], [5, 5])]


class Watched:
    """A network whose calls of ``generate`` are kept."""

    def __init__(self, network: Any, *, tensors: bool = False, cache: Any = None) -> None:
        self.network, self.tensors, self.cache = network, tensors, cache
        self.model = network.model
        self.calls: list[tuple[int, int, bool]] = []

    def generate(self, ids: torch.Tensor, **options: Any) -> Any:
        known = options.get("past_key_values") is not None
        self.calls.append((len(ids), options["max_new_tokens"], known))
        out = self.network.generate(ids, **options)
        if self.tensors:
            return getattr(out, "sequences", out)
        if self.cache is not None:
            out.past_key_values = self.cache
        return out


@pytest.fixture
def network() -> Any:
    return diverse_llama(8, seed=1).double()


def alone(network: Any, room: list[int], end: list[int]) -> list[list[int]]:
    found = []
    for prefix, most in zip(PREFIXES, room, strict=True):
        ids = prefix.tolist()
        while len(ids) < len(prefix) + most:
            logits = network({"input_ids": torch.tensor([ids])}).logits()[0, -1]
            ids.append(int(logits.argmax()))
            if ids[-1] in end:
                break
        found.append(ids[len(prefix) :])
    return found


@pytest.mark.parametrize("room", [[6, 6, 6, 6], [3, 30, 1, 18], [40, 40, 2, 39]], ids=str)
@pytest.mark.parametrize("ends", [0, 1, 2])
def test_each_sequence_has_the_text_that_it_has_alone(
    network: Any, room: list[int], ends: int
) -> None:
    whole = alone(network, room, [])
    end = [whole[1][0], whole[3][-1]][:ends]
    made = decode_batch(network, PREFIXES, room, end=end, device=CPU, do_sample=False)
    assert [text.tolist() for text in made] == alone(network, room, end)


@pytest.mark.parametrize("kind", ["tensors", "other cache"])
def test_a_network_without_the_usual_cache_has_the_same_text(network: Any, kind: str) -> None:
    room = [3, 30, 1, 18]
    other: Any = Watched(network, tensors=kind == "tensors", cache=object())
    made = decode_batch(other, PREFIXES, room, end=[], device=CPU, do_sample=False)
    assert [text.tolist() for text in made] == alone(network, room, [])
    assert len(other.calls) == 2  # one to find out, one to the end
    assert not other.calls[1][2]


def test_what_is_done_leaves_the_batch(network: Any) -> None:
    watched: Any = Watched(network)
    decode_batch(watched, PREFIXES, [3, 30, 1, 18], end=[], device=CPU, do_sample=False)
    assert watched.calls == [(4, 1, False), (3, 2, True), (2, 15, True), (1, 12, True)]
    watched.calls.clear()
    decode_batch(watched, PREFIXES, [9] * 4, end=[], device=CPU, do_sample=False)
    assert watched.calls == [(4, 9, False)]
    watched.calls.clear()
    unused = set(range(11)) - {token for text in alone(network, [40] * 4, []) for token in text}
    decode_batch(watched, PREFIXES, [40] * 4, end=[unused.pop()], device=CPU, do_sample=False)
    assert [steps for _, steps, _ in watched.calls] == [SEGMENT, SEGMENT, 8]


def test_ranks_that_generate_together_call_once(network: Any) -> None:
    calls = []

    class Synced:
        def generate(self, ids: torch.Tensor, **options: Any) -> Any:
            calls.append((options.pop("synced_gpus"), options["max_new_tokens"]))
            return network.generate(ids, **options)

    room = [3, 30, 1, 18]
    made = decode_batch(
        Synced(), PREFIXES, room, end=[], device=CPU, synced_gpus=True, do_sample=False
    )
    assert calls == [(True, 30)]
    assert [text.tolist() for text in made] == alone(network, room, [])


def test_a_config_that_counts_tokens_of_a_call_keeps_the_call_whole(network: Any) -> None:
    network.model.generation_config.min_new_tokens = 20
    end = [alone(network, [1] * 4, [])[0][0]]
    (text, *_) = decode_batch(network, PREFIXES, [24] * 4, end=end, device=CPU, do_sample=False)
    assert len(text) >= 20


def test_a_model_that_stops_for_its_own_reason_is_not_asked_again() -> None:
    class Stops:
        def generate(self, ids: torch.Tensor, **options: Any) -> torch.Tensor:
            return torch.cat([ids, ids.new_ones(len(ids), 1)], 1)

    made = decode_batch(Stops(), PREFIXES, [5] * 4, end=[9], device=CPU)
    assert [text.tolist() for text in made] == [[1]] * 4


def test_a_generate_method_of_its_own_gets_the_usual_arguments(network: Any) -> None:
    class Own:
        def generate(
            self, ids: Any, attention_mask: Any, max_new_tokens: int, use_cache: bool, **known: Any
        ) -> torch.Tensor:
            assert sorted(known) == ["do_sample", "eos_token_id", "pad_token_id"]
            given = {"max_new_tokens": max_new_tokens, "use_cache": use_cache, **known}
            return network.generate(ids, attention_mask=attention_mask, **given)

    room = [3, 30, 1, 18]
    made = decode_batch(Own(), PREFIXES, room, end=[], device=CPU, do_sample=False)
    assert [text.tolist() for text in made] == alone(network, room, [])


def test_padding_stands_on_the_left() -> None:
    ids, mask = pad_left(PREFIXES[:2], 9)
    assert ids.tolist() == [[3, 4, 5, 6, 7], [9, 9, 9, 9, 2]]
    assert mask.tolist() == [[1] * 5, [0, 0, 0, 0, 1]]


def test_only_the_usual_cache_is_divided() -> None:
    assert selected_cache(None, [0], 2) is None
    assert selected_cache(object(), [0], 2) is None
