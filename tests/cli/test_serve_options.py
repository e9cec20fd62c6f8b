"""The options of a server have the defaults of its limits."""

from __future__ import annotations

import pytest
from jsonargparse import ArgumentParser

from kdlight.cli.serve_options import add_options
from kdlight.serve import Limits


def parser() -> ArgumentParser:
    made = ArgumentParser(exit_on_error=False)
    add_options(made)
    return made


def test_the_defaults_are_those_of_the_limits() -> None:
    given = parser().parse_args([])
    assert Limits(given.k, given.max_tokens, given.queue) == Limits()
    assert (given.host, given.port) == ("127.0.0.1", 8000)
    assert (given.states, given.token_variable) == (None, None)


def test_null_is_all_tokens_and_no_states() -> None:
    given = parser().parse_args(["--k=null", "--states=null"])
    assert (given.k, given.states) == (None, None)


def test_an_unknown_dtype_of_states_is_refused() -> None:
    with pytest.raises(Exception, match="float8"):
        parser().parse_args(["--states=float8"])
