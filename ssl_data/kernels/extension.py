"""The compiled extension, where there is one, and whether it is to be used."""

from __future__ import annotations

import os

try:
    from ssl_data.kernels import _native as native
except ImportError:  # it is optional: without a compiler everything works, only slower
    native = None  # type: ignore[assignment]

__all__ = ["BACKEND_VARIABLE", "backend_of_environment", "is_portable", "native", "use_native"]

BACKEND_VARIABLE = "SSL_DATA_BACKEND"
"""Environment variable that replaces "auto" by another backend."""


def backend_of_environment() -> str:
    """The backend that ``SSL_DATA_BACKEND`` names, else "auto"."""
    return os.environ.get(BACKEND_VARIABLE, "auto")


def use_native() -> bool:
    """Whether compiled code is there and not switched off by the environment."""
    return native is not None and backend_of_environment() != "numpy"


def is_portable() -> bool:
    """Whether the environment asks for compiled code that needs no special instructions."""
    return backend_of_environment() == "native-portable"
