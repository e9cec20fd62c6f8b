from __future__ import annotations

from dataclasses import replace

import pytest

from kdlight.endpoints import Endpoint
from kdlight.remote import ServerInfo
from kdlight.remote.connection import Connection, connect
from kdlight.remote.dialects import VLLM
from kdlight.remote.server_checks import check_same_tokenizer, check_scores
from kdlight.remote.servers import Servers
from tests.remote.recordings import Recording, replayed
from tests.support import served, tiny_lm
from tests.support.http_server import http_server


def test_a_fingerprint_is_compared() -> None:
    with served.server() as server:
        found = connect([served.endpoint(server)], "auto", None)
        assert found.info.tokenizer is not None
        check_same_tokenizer(found, tiny_lm.tokenizer())
        other = replace(found, info=replace(found.info, tokenizer="0123"))
        with pytest.raises(ValueError, match="fingerprint 0123, but the tokenizer of the data"):
            check_same_tokenizer(other, tiny_lm.tokenizer())


def test_a_server_that_does_not_score_as_its_kind_is_refused() -> None:
    """A replay has the answer to two sequences only, whatever it is asked."""
    with http_server(replayed(Recording("vllm_0.32.0.json"), limits=(102, 64))) as server:
        endpoint = Endpoint(server.url, retries=0)
        info = ServerInfo("vLLM", "student", vocab_size=102, max_k=64)
        made = Connection(Servers([endpoint]), VLLM(), info)
        with pytest.raises(Exception, match="not recorded"):
            check_scores(made, k=5, vocab_size=102)
        check_scores(made, k=1, vocab_size=3)  # too few tokens to try


def test_our_own_server_is_believed() -> None:
    with served.server() as server:
        before = served.endpoint(server)
        found = connect([before], "auto", None)
        received = before.received
        check_scores(found, k=5, vocab_size=102)
        assert before.received == received
