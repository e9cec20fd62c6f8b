"""The options of a cache have the defaults of its settings."""

from __future__ import annotations

import pytest
from jsonargparse import ArgumentParser

from kdlight.cache.settings import Settings
from kdlight.cli.cache_options import add_options


def test_the_defaults_are_those_of_the_settings() -> None:
    parser = ArgumentParser(exit_on_error=False)
    add_options(parser)
    given = parser.parse_args(["--output=out"])
    assert Settings(given.k, given.top_p, given.bits).bits == 8
    assert (given.k, given.shard_positions) == (50, 65536)


def test_a_folder_is_required() -> None:
    parser = ArgumentParser(exit_on_error=False)
    add_options(parser)
    with pytest.raises(Exception, match="output"):
        parser.parse_args([])
