"""Checks before the student answers prompts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kdlight.callbacks.generation.answer_checks import (
    check_answerable,
    check_has_batches,
    check_names,
    check_validates,
)
from kdlight.data.traces import Trace
from tests.support import tiny_lm


@pytest.mark.parametrize(("epochs", "every"), [(4, 4), (-1, 9), (None, 9)])
def test_a_run_that_validates(epochs: int | None, every: int) -> None:
    run: Any = SimpleNamespace(enable_validation=True, max_epochs=epochs, check_val_every_n_epoch=1)
    check_validates("Asks", run, every_n_epochs=every)


@pytest.mark.parametrize(
    ("validates", "every", "message"),
    [(False, 1, "Asks runs at the end of a validation"), (True, 5, "Asks would never run")],
)
def test_a_run_in_which_it_never_runs_is_refused(validates: bool, every: int, message: str) -> None:
    run: Any = SimpleNamespace(
        enable_validation=validates, max_epochs=4, check_val_every_n_epoch=None
    )
    with pytest.raises(ValueError, match=message):
        check_validates("Asks", run, every_n_epochs=every)


def test_batches_are_counted() -> None:
    check_has_batches("Asks", SimpleNamespace(num_val_batches=[0, 2]))  # type: ignore[arg-type]
    check_has_batches("Asks", SimpleNamespace(num_val_batches=[float("inf")]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no batches to validate on"):
        check_has_batches("Asks", SimpleNamespace(num_val_batches=[]))  # type: ignore[arg-type]


def test_names_are_different() -> None:
    kind = SimpleNamespace
    check_names(kind, kind(callbacks=[kind(name="a"), kind(name=None)]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two SimpleNamespace callbacks have the name 'a'"):
        check_names(kind, kind(callbacks=[kind(name="a"), kind(name="a")]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompts", "length", "message"),
    [
        ([], 8, "at least one prompt"),
        ([Trace("a", "")] * 2, 8, "must have different ids"),
        ([Trace("a", "")], 256, "set max_new_tokens to 255 or less"),
        ([Trace("", "")], 8, "has no tokens"),
    ],
)
def test_prompts_that_cannot_be_answered(prompts: Any, length: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_answerable(
            tiny_lm.model(), tiny_lm.tokenizer(), prompts, chat=False, max_new_tokens=length
        )


def test_answers_must_be_able_to_end() -> None:
    tokenizer, model = tiny_lm.tokenizer(), tiny_lm.model()
    prompts = [Trace("a", "")]
    check_answerable(model, tokenizer, prompts, chat=False, max_new_tokens=255)
    tokenizer.eos_token = model.generation_config.eos_token_id = None
    with pytest.raises(ValueError, match="has an end token, so that no answer would end"):
        check_answerable(model, tokenizer, prompts, chat=False, max_new_tokens=255)
