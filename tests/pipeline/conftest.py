"""Fixtures shared by the tests of the pipeline."""

import pytest


@pytest.fixture(scope="session")
def odd_names():
    """Names of image files that break lines, quotes and paths of careless programs."""
    return [
        "a b.png",
        "a#1?&%20.png",
        "\"quoted\" 'too'.png",
        "ünïcödé 図.PNG",
        "line\nbreak\r.png",
        "\x1b[31m.png",
        "-x.png",
    ]
