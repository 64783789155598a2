"""The examples in docstrings."""

import doctest
import importlib
import pkgutil

import ssl_data

OPTIONAL = {"triton"}  # only where the kernels of an accelerator can be compiled or interpreted


def test_examples_in_docstrings_are_right():
    attempted = 0
    for module in pkgutil.walk_packages(ssl_data.__path__, "ssl_data."):
        if module.name.endswith("._native"):
            continue
        try:
            imported = importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL:
                raise
            continue
        result = doctest.testmod(imported)
        assert result.failed == 0, module.name
        attempted += result.attempted
    assert attempted > 0
