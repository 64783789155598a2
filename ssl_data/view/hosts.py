"""Which names a request may call the server by.

A web page elsewhere can let its own name point to 127.0.0.1 (DNS rebinding); a browser then takes the server for part
of that page and lets it read every answer. The header ``Host`` still holds the page's name, and gives it away. An
address cannot be pointed elsewhere, so that addresses are harmless.
"""

from __future__ import annotations

import ipaddress
import re
import socket

__all__ = ["is_loopback", "is_trusted_host"]


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a server that listens there is reached from its own machine only."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def is_trusted_host(header: str | None, listening_on: str) -> bool:
    """Whether the header ``Host`` of a request names this server.

    Parameters
    ----------
    header : str or None
        Name or address, with or without a port.
    listening_on : str
        What the server was told to listen on.

    Examples
    --------
    >>> is_trusted_host("localhost:8765", "127.0.0.1"), is_trusted_host("evil.example:8765", "127.0.0.1")
    (True, False)
    """
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]/@\s]+))(?::[0-9]{1,5})?", header or "")
    if found is None:
        return False
    name = (found[1] or found[2]).lower()
    if is_loopback(name) or name == listening_on.lower():
        return True
    if is_loopback(listening_on):
        return False
    return _address(name) is not None or name in {socket.gethostname().lower(), socket.getfqdn().lower()}
