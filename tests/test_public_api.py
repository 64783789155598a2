"""The public names."""

import subprocess
import sys

import pytest

import ssl_data


@pytest.mark.parametrize("name", ssl_data.__all__)
def test_every_public_name_is_there(name):
    assert getattr(ssl_data, name).__doc__


def test_dir_lists_the_public_names():
    assert dir(ssl_data) == sorted(ssl_data.__all__)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ssl_data.nonsense


def test_all_errors_have_one_base():
    from ssl_data import errors

    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) > 10
    assert all(issubclass(kind, ssl_data.SSLDataError) for kind in classes)
    assert all(kind.__name__ in errors.__doc__ for kind in classes)


def test_without_torch_the_remedy_is_named():
    code = """
import sys
sys.modules["torch"] = None
import ssl_data
try:
    ssl_data.SSLCachedDataset
except ssl_data.SSLDataError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'ssl_data[train]'" in done.stdout
