from __future__ import annotations

import pytest

from kdlight.data.traces.tokenizer_hash import PROBE
from kdlight.endpoints import ServerError
from kdlight.remote.dialects.tokenizer_probe import check_probe
from tests.support import tiny_lm

TOKENIZER = tiny_lm.tokenizer()
IDS = TOKENIZER(PROBE, add_special_tokens=False)["input_ids"]


def test_the_same_ids_are_accepted() -> None:
    check_probe(lambda text: [*IDS], TOKENIZER, "a server")


def test_another_id_is_told_with_its_place() -> None:
    other = [*IDS[:4], IDS[4] + 1, *IDS[5:]]
    with pytest.raises(ValueError, match=rf"its token 4 is \[{IDS[4] + 1}\], and .*\[{IDS[4]}\]"):
        check_probe(lambda text: other, TOKENIZER, "a server")
    with pytest.raises(ValueError, match="another tokenizer"):
        check_probe(lambda text: IDS[:-1], TOKENIZER, "a server")


def test_a_server_that_does_not_tell_is_accepted() -> None:
    def refuse(text: str) -> list[int]:
        raise ServerError("no", url="http://a")

    check_probe(refuse, TOKENIZER, "a server")
