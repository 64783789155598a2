"""A folder and an object store are the same to a builder; the object store is, whatever the network does."""

import hashlib
import itertools
import os
import random
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl_data.errors import ConfigError, StoreUnreachableError
from ssl_data.store import fetcher
from ssl_data.store.locate import open_target
from ssl_data.store.source import ObjectMissingError

SECRET = "a-secret-that-must-never-be-shown"  # noqa: S105 - of nothing; as in conftest.py
PATHS = ["zarr.json", "manifest/plan.json", "manifest/shard-00001.parquet", "gt/c/1/0/0/0", "gt/c/0/0/0/0"]
FAULTS = ["reset", "cut", "lost", "503", "500", "truncate"]
FAULTS_IN_A_ROW = 3
"""One less than a request that breaks off is tried: a fourth would rightly be an error."""
serial = itertools.count()


@pytest.fixture
def places(tmp_path, environment):
    """A function that makes a fresh target of each kind."""

    def fresh():
        number = next(serial)
        folder = tmp_path / f"store-{number}"
        (folder / ".build").mkdir(parents=True)
        return [open_target(folder), open_target(f"s3://bucket/targets/{os.getpid()}/store-{number}")]

    return fresh


def act(target, model, action):
    """Do something to a target and to the dictionary that it ought to be like."""
    kind, path, content = action
    if kind == "put":
        target.put(path, content)
        model[path] = content
    elif kind == "create":
        expected = model.setdefault(path, content) == content
        assert target.create(path, content) == expected
    elif kind == "remove":
        target.remove(path)
        model.pop(path, None)
    else:
        with target.draft("shard-00001", ".build") as draft:
            for name in (path, "gt/c/9/0/0/0"):
                draft.open(name).write(content)
            assert len(target.unfinished(".build")) >= 1
            assert all(name.startswith("shard-00001-") for name in target.unfinished(".build"))
            if kind == "commit":
                draft.commit()
                model.update({path: content, "gt/c/9/0/0/0": content})


def assert_like(target, model):
    assert sorted(target.entries()) == sorted(model) or (not model and list(target.entries()) == [".build"])
    assert target.sizes([*PATHS, "gt/c/9/0/0/0"]) == {path: len(content) for path, content in model.items()}
    for path, content in model.items():
        assert target.read_all(path) == content
    for path in set(PATHS) - set(model):
        with pytest.raises(ObjectMissingError):
            target.read_all(path)


actions = st.tuples(
    st.sampled_from(["put", "create", "remove", "commit", "discard"]),
    st.sampled_from(PATHS),
    st.sampled_from([b"", b"a", b"b", bytes(1000)]),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(actions, max_size=8))
def test_a_target_is_like_a_dictionary(steps, places):
    for target in places():
        model = {}
        for step in steps:
            act(target, model, step)
        (target.root / ".build").rmdir() if hasattr(target, "root") else None
        assert_like(target, model)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(actions, min_size=4, max_size=6), seed=st.integers(0, 2**32 - 1))
def test_faults_change_nothing(steps, seed, places, proxy, monkeypatch):
    """An answer that was lost says nothing about what was done: neither may a lost creation look like another's."""
    monkeypatch.setenv("SSL_DATA_REMOTE_RETRIES", "12")
    target, model = places()[1], {}
    draw = random.Random(seed)  # noqa: S311 - nothing secret
    for step in steps:
        proxy.faults.clear()
        proxy.faults.extend(draw.choices([None, None, None, *FAULTS], k=FAULTS_IN_A_ROW))
        act(target, model, step)
    proxy.reset()
    assert_like(target, model)


def test_a_large_object_travels_in_parts(places, proxy):
    target = places()[1]
    content = random.Random(0).randbytes(34 << 20)  # noqa: S311 - nothing secret
    proxy.faults.extend([None, "503", None, "cut", "reset", "lost"])
    with target.draft("shard-00001", ".build") as draft:
        file = draft.open("ssg/c/1/0")
        file.write(content)
        draft.commit()
    assert not proxy.faults
    assert sum("partNumber" in request for request in proxy.requests) > 3
    assert target.sizes(["ssg/c/1/0"]) == {"ssg/c/1/0": len(content)}
    assert hashlib.sha256(target.read_all("ssg/c/1/0")).digest() == hashlib.sha256(content).digest()


def test_nothing_is_put_where_the_network_never_recovers(places, proxy, monkeypatch):
    monkeypatch.setenv("SSL_DATA_REMOTE_RETRIES", "1")
    target = places()[1]
    proxy.every_fault = "503"
    for put in (target.put, target.create):
        with pytest.raises(
            StoreUnreachableError, match=rf"{target.url}/zarr.json could not be written \(503"
        ) as caught:
            put("zarr.json", b"content")
        assert SECRET not in repr(caught.value)
    proxy.every_fault = "403"
    with pytest.raises(StoreUnreachableError, match="may read, write, delete and list there"):
        target.create("zarr.json", b"content")
    proxy.reset()
    assert list(target.entries()) == []


def test_of_many_that_create_an_object_one_wins(places):
    for target in places():
        won = []

        def create(number, target=target, won=won):
            if target.create("manifest/plan.json", b"%d" % number):
                won.append(number)

        threads = [threading.Thread(target=create, args=[number]) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert target.read_all("manifest/plan.json") == b"%d" % won[0]


def test_threads_that_ask_at_the_same_time_do_not_wait_for_each_other(places, proxy):
    target = places()[1]
    target.put("zarr.json", b"content")
    proxy.stall_seconds = 0.5
    proxy.faults.extend(["slow"])
    thread = threading.Thread(target=target.read_all, args=["zarr.json"])
    thread.start()
    while proxy.faults:
        pass
    target.read_all("zarr.json")
    assert thread.is_alive()
    thread.join()
    assert len(fetcher._pool.all) == len(fetcher._pool.idle) >= 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://host/store", "nothing can be written to a plain web server"),
        ("ftp://host/store", "ftp:// is not supported; give a folder or one of s3://"),
        ("s3://key:hidden-word@bucket/store", "the URL at bucket holds a user, a password"),
        ("s3://bucket/store?signature=hidden-word", "holds a user, a password, a query"),
    ],
)
def test_where_nothing_can_be_built(url, message):
    with pytest.raises(ConfigError, match=message) as caught:
        open_target(url)
    assert "hidden-word" not in str(caught.value)


def test_many_small_objects_are_read_at_once(places, proxy):
    for target in places():
        contents = {f"manifest/shard-{number:05d}.parquet": b"%d" % number * number for number in range(70)}
        for path, content in contents.items():
            target.put(path, content)
        proxy.faults.extend([None, "503", "reset", "truncate"])
        names = ["manifest/none", *reversed(contents), "also/none"]
        assert list(target.read_each(names)) == list(reversed(contents.items()))
        assert list(target.read_each([])) == []
