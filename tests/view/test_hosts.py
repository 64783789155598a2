"""Which names of the server are believed."""

import socket

import pytest

from ssl_data.view.hosts import is_loopback, is_trusted_host


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8765", "localhost:1", "LOCALHOST", "[::1]:8765", "127.8.0.1:80"]
)
def test_the_machine_itself_is_believed(host):
    assert is_trusted_host(host, "127.0.0.1")


OTHERS = """
    evil.example evil.example:8765 127.0.0.1.evil.example localhost.evil.example 192.0.2.1:80 evil.example@127.0.0.1
    127.0.0.1:80:80 127.0.0.1:80/ [::1 [evil.example] [::1]x
"""


@pytest.mark.parametrize("host", [None, "", " ", *OTHERS.split()])
def test_other_names_are_not_believed_on_loopback(host):
    assert not is_trusted_host(host, "127.0.0.1")


def test_a_server_for_all_is_known_by_its_addresses_and_names():
    assert is_trusted_host("192.0.2.1:80", "0.0.0.0")  # noqa: S104
    assert is_trusted_host(socket.gethostname(), "0.0.0.0")  # noqa: S104
    assert is_trusted_host("gpu-box:80", "gpu-box")
    assert not is_trusted_host("evil.example:80", "0.0.0.0")  # noqa: S104


def test_loopback_is_told_from_other_addresses():
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost")] == [True, True, True]
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.0.2.1", "box")] == [False] * 4  # noqa: S104
