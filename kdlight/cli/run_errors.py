"""Errors of a run in one line: those of its set-up, and those that kdlight raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer

from kdlight.cli.errors import TRACEBACK, WRONG_INPUT, describe, exit_with
from kdlight.modules import NonFiniteLossError

SETUP_ERRORS = (*WRONG_INPUT, MisconfigurationException, ArithmeticError, LookupError)
"""Errors of arguments that nobody checked, before the first batch."""

OWN_ERRORS = (*WRONG_INPUT, NonFiniteLossError)
"""Errors with a message for the user, if they are raised by a check of kdlight."""


@contextmanager
def one_line_run_errors(trainer: Trainer) -> Iterator[None]:
    """Exit with one line and code 2 on an error that is not one of the code of a run.

    These are all errors of wrong input before the first batch, errors that kdlight raises later,
    and errors of files and disks. Any other error has a traceback, which says where it happened.
    """
    started = _Started()
    trainer.callbacks.append(started)  # type: ignore[attr-defined]
    try:
        yield
    except Exception as error:
        if not _is_one_line(error, started.value):
            raise
        hint = "" if isinstance(error, WRONG_INPUT) else f" ({TRACEBACK} shows where)"
        exit_with(describe(error) + hint, error)


def _is_one_line(error: Exception, started: bool) -> bool:
    if not started and isinstance(error, SETUP_ERRORS):
        return True
    own = isinstance(error, OWN_ERRORS) and _raised_in(error).startswith("kdlight.")
    return own or isinstance(error, OSError)


def _raised_in(error: Exception) -> str:
    """Return the name of the module that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")


class _Started(Callback):
    """Remembers whether a batch was begun."""

    def __init__(self) -> None:
        self.value = False

    def _start(self, *args: Any) -> None:
        self.value = True

    # one method for hooks that have other arguments
    on_train_batch_start = on_validation_batch_start = _start  # type: ignore[assignment]
    on_test_batch_start = on_predict_batch_start = _start  # type: ignore[assignment]
