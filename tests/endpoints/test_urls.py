from __future__ import annotations

import pytest

from kdlight.endpoints.urls import is_loopback, parse_url


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        (" https://a.example/teacher/ ", "https://a.example/teacher"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_an_address_is_written_in_one_way(given: str, url: str) -> None:
    assert parse_url(given) == url


@pytest.mark.parametrize("given", ["localhost:8000", "", "ftp://a", "http://", "http://a?x=1"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="url must be an address"):
        parse_url(given)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="user or a password") as error:
        parse_url("http://me:s3cret@a")
    assert "s3cret" not in str(error.value)


def test_a_number_is_no_address() -> None:
    with pytest.raises(TypeError, match="url must be an address"):
        parse_url(8000)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:80", True),
        ("http://127.0.0.9", True),
        ("http://[::1]:80", True),
        ("http://a.localhost", True),
        ("http://localhost.example.org", False),
        ("https://10.1.2.3:80", False),
    ],
)
def test_addresses_of_this_machine(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected
