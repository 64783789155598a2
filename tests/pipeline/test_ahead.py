"""Computing ahead changes nothing but the time."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_data.pipeline.ahead import ahead


@given(st.lists(st.none() | st.integers()))
def test_the_items_are_the_same(items):
    assert list(ahead(iter(items))) == items


def test_the_next_item_is_computed_while_this_one_is_used():
    computed = [threading.Event() for _ in range(3)]

    def items():
        for number, event in enumerate(computed):
            event.set()
            yield number

    for number in ahead(items()):
        if number < 2:
            assert computed[number + 1].wait(10)  # without waiting for the consumer
        assert not any(event.is_set() for event in computed[number + 2 :])  # but not further ahead


def test_an_error_comes_in_the_place_of_its_item():
    def items():
        yield 1
        raise ValueError("broken")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="broken"):
        next(found)


def test_stopping_early_ends_the_thread():
    found = ahead(iter(range(100)))
    next(found)
    found.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
