"""Settings of a generation config: which change a text, and when they do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from kdlight.models import Sampling
from kdlight.rollouts import HuggingFaceRollouts, Writer
from kdlight.rollouts.decoding import decode_batch
from kdlight.rollouts.generation_settings import neutral_settings, settings_of_a_call
from tests.callbacks.test_on_policy import diverse_llama

CPU = torch.device("cpu")
PREFIXES = [torch.tensor(ids) for ids in ([3, 4, 5, 6, 7], [2], [8, 9, 1], [5, 5])]

WHOLE: list[dict[str, Any]] = [
    {"num_beams": 3},
    {"guidance_scale": 1.5},
    {"encoder_repetition_penalty": 1.5},
    {"encoder_no_repeat_ngram_size": 1},
    {"cache_implementation": "dynamic"},
    {"cache_implementation": "static"},
    {"min_new_tokens": 20},
    {"begin_suppress_tokens": [1]},
]
DIVIDED: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 2},
    {"min_length": 20},
    {"bad_words_ids": [[3]]},
    {"num_beams": 1, "guidance_scale": 1.0},
]


@pytest.fixture
def network() -> Any:
    return diverse_llama(8, seed=1).double()


def configure(network: Any, settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        setattr(network.model.generation_config, name, value)


def whole(network: Any, room: int, end: list[int]) -> list[list[int]]:
    """Return what one call of ``generate`` writes for all sequences together."""
    ids = torch.zeros(4, 5, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prefix in enumerate(PREFIXES):
        ids[row, 5 - len(prefix) :], mask[row, 5 - len(prefix) :] = prefix, 1
    options: dict[str, Any] = {"eos_token_id": end, "pad_token_id": end[0], "do_sample": False}
    new = network.generate(ids, attention_mask=mask, max_new_tokens=room, **options)[:, 5:]
    texts = []
    for row in new.tolist():
        first = next((at for at, token in enumerate(row) if token in end), len(row))
        texts.append(row[: first + 1])
    return texts


@pytest.mark.filterwarnings("ignore:You have set `compile_config`")
@pytest.mark.parametrize("settings", [*WHOLE, *DIVIDED], ids=str)
def test_a_text_is_that_of_one_call(settings: dict[str, Any], network: Any) -> None:
    configure(network, settings)
    assert bool(settings_of_a_call(network)) == (settings in WHOLE)
    end = [0, 4]
    made = decode_batch(network, PREFIXES, [40] * 4, end=end, device=CPU, do_sample=False)
    assert [text.tolist() for text in made] == whole(network, 40, end)


def test_a_row_of_a_batch_has_one_text(network: Any) -> None:
    network.model.generation_config.update(num_return_sequences=2, do_sample=True)
    made = decode_batch(network, PREFIXES, [3] * 4, end=[], device=CPU, do_sample=True)
    assert [len(text) for text in made] == [3] * 4


SETTINGS: list[dict[str, Any]] = [
    {"repetition_penalty": 1.5},
    {"min_p": 0.2},
    {"suppress_tokens": [3, 4]},
    {"no_repeat_ngram_size": 2},
    {"typical_p": 0.5},
    {"num_beams": 2},
    {"top_k": 2, "top_p": 0.5, "temperature": 0.1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_student_as_it_is_writes_whatever_its_config_sets(
    settings: dict[str, Any], network: Any
) -> None:
    def texts(**options: Any) -> list[list[int]]:
        made = HuggingFaceRollouts().generate(
            Writer(network, **options), PREFIXES, [9] * 4, sampling=Sampling(), seed=0, end=[]
        )
        return [text.tolist() for text in made]

    plain = texts()
    configure(network, settings)
    assert texts(as_it_is=True) == plain
    if not {"top_k"} & set(settings):  # which the sampling sets
        assert texts() != plain
    (name, *_) = settings
    assert getattr(network.model.generation_config, name) == settings[name]


def test_special_tokens_stay(network: Any) -> None:
    kept = network.model.generation_config
    kept.update(eos_token_id=[1, 2], pad_token_id=3, bos_token_id=4, min_p=0.5)
    with neutral_settings(network):
        inner = network.model.generation_config
        assert isinstance(inner, GenerationConfig)
        assert (inner.eos_token_id, inner.pad_token_id, inner.bos_token_id) == ([1, 2], 3, 4)
        assert inner.min_p is None
    assert network.model.generation_config is kept
    with neutral_settings(object()):
        pass
