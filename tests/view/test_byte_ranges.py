"""The header Range, against slices of bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.view.byte_ranges import UnsatisfiableRangeError, content_range, requested_bytes

CONTENT = bytes(range(100))


def asked(header):
    wanted = requested_bytes(header, len(CONTENT))
    return None if wanted is None else CONTENT[wanted.start : wanted.stop]


@given(first=st.integers(0, 99), num_bytes=st.integers(1, 200))
def test_a_first_and_a_last_byte(first, num_bytes):
    assert asked(f"bytes={first}-{first + num_bytes - 1}") == CONTENT[first : first + num_bytes]
    assert asked(f"bytes={first}-") == CONTENT[first:]


@given(st.integers(1, 300))
def test_the_last_bytes(num_bytes):
    assert asked(f"bytes=-{num_bytes}") == CONTENT[-num_bytes:]


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-120", "bytes=-0"])
def test_bytes_that_are_not_there(header):
    with pytest.raises(UnsatisfiableRangeError):
        asked(header)


@pytest.mark.parametrize("header", [None, "", "bytes", "bytes=", "bytes=-", "bytes=1-2,4-5", "rows=1-2", "bytes=5-4"])
def test_what_is_no_single_range_is_ignored(header):
    assert asked(header) is None


@given(st.text(max_size=30))
def test_no_header_breaks_it(header):
    try:
        wanted = requested_bytes(header, 100)
    except UnsatisfiableRangeError:
        return
    assert wanted is None or (0 <= wanted.start < wanted.stop <= 100)


def test_the_answer_says_which_bytes_it_holds():
    assert content_range(range(2, 5), 10) == "bytes 2-4/10"
    assert content_range(None, 10) == "bytes */10"
