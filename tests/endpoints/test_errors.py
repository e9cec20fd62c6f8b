from __future__ import annotations

import pickle

from kdlight.endpoints import RequestRefused, ServerError


def test_errors_survive_a_pickle() -> None:
    plain = pickle.loads(pickle.dumps(ServerError("gone", url="http://a")))
    assert (type(plain), str(plain), plain.url) == (ServerError, "gone", "http://a")
    refused = RequestRefused("no", url="http://a", status=413, text="too large")
    copy = pickle.loads(pickle.dumps(refused))
    assert (type(copy), copy.status, copy.text) == (RequestRefused, 413, "too large")
    assert isinstance(copy, ServerError)
