"""The examples in docstrings."""

import doctest
import importlib
import pkgutil

import ssl_data


def test_examples_in_docstrings_are_right():
    attempted = 0
    for module in pkgutil.walk_packages(ssl_data.__path__, "ssl_data."):
        if module.name.endswith("._native"):
            continue
        result = doctest.testmod(importlib.import_module(module.name))
        assert result.failed == 0, module.name
        attempted += result.attempted
    assert attempted > 0
