from __future__ import annotations

import os

import pytest

from kdlight.endpoints.client import Client
from tests.support.http_server import Reply, http_server


def test_a_client_is_kept_and_closed() -> None:
    client = Client(timeout=1.0, headers={"X-Name": "a"})
    with http_server(lambda *_: Reply("ok")) as server:
        assert client.get() is client.get()
        client.get().get(server.url)
        assert server.asked[0].headers["x-name"] == "a"
        client.close()
        client.get().get(server.url)  # opens anew
        client.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_a_client_of_its_own() -> None:
    client = Client(timeout=1.0)
    first = client.get()
    child = os.fork()
    if not child:
        os._exit(0 if client.get() is not first else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.close()
