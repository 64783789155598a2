"""Stores built in an object store are the same, byte for byte, as those built in a folder, whatever happens."""

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from ssl_data import BuildConfig, EdgeSpec, PatchSpec, StoreSpec, build, verify_store
from ssl_data.errors import (
    BuildError,
    ConfigError,
    StoreCorruptError,
    StoreIncompleteError,
    StoreLockedError,
    StoreMismatchError,
)
from ssl_data.pipeline.executors import RayExecutor, SerialExecutor
from ssl_data.pipeline.parts import Part, build_part, finalize
from ssl_data.pipeline.repair import RepairSources, repair_store
from ssl_data.pipeline.status import read_status
from ssl_data.store.locate import open_target
from ssl_data.testing import write_images

SECRET = "a-secret-that-must-never-be-shown"  # noqa: S105 - of nothing; as in conftest.py
COMMAND = [sys.executable, "-W", "error", "-c", "from ssl_data.cli.app import main; main()"]
OPTIONS = ["--patch-size", "64", "--step", "32", "--workers", "1"]
serial = itertools.count()


def configure(images, out, *, edge_stride=1, **options):
    return BuildConfig(
        dataset=str(images),
        out=str(out),
        patch=PatchSpec(patch_size=64, step=32),
        edge=EdgeSpec(edge_stride=edge_stride),
        store=StoreSpec(patches_per_shard=2, chunk_rows=128),
        workers=1,
        **options,
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("building") / "images", [(96, 64), (64, 64), (100, 130)])


@pytest.fixture(scope="module")
def whole(images):
    """The store as a folder: 8 shards."""
    build(configure(images, images.parent / "whole"))
    return contents_of(images.parent / "whole")


@pytest.fixture
def out(environment):
    return f"s3://bucket/built/{os.getpid()}/store-{next(serial)}.zarr"


def contents_of(folder):
    """All files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def contents(url):
    """All objects below a URL."""
    target = open_target(url)
    return {path: target.read_all(path) for path in target.entries()}


def test_a_build_gives_the_bytes_of_a_folder_and_leaves_nothing_else(images, whole, out, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    report = build(configure(images, out))
    assert (report.out, report.num_patches, report.num_shards_reused) == (out, 15, 0)
    assert contents(out) == whole
    assert verify_store(out, deep=True) == []
    assert list(tmp_path.iterdir()) == []
    assert read_status(out).state == "complete"
    again = build(configure(images, out))
    assert (again.nothing_to_do, again.num_graphs) == (True, report.num_graphs)
    with pytest.raises(StoreMismatchError, match="edge_stride: the store has 1, asked for 3"):
        build(configure(images, out, edge_stride=3))
    assert contents(out) == whole


def test_ray_workers_read_images_and_write_the_store_themselves(images, whole, out):
    for path in images.iterdir():
        open_target(f"{out}-images").put(path.name, path.read_bytes())
    build(configure(f"{out}-images", out), executor=RayExecutor(2))
    assert contents(out) == whole


def test_parts_are_put_together_when_all_are_there(images, whole, out):
    build_part(configure(images, out), Part(index=1, num_parts=3))
    with pytest.raises(
        StoreIncompleteError, match=r"5 of 8 shards are missing: 0, 2, 3, 5, 6; run part 0/3, 2/3 again"
    ):
        finalize(out)
    with open_target(out).part_lock(2, 3), pytest.raises(StoreLockedError, match="part 2/3, since "):
        build_part(configure(images, out), Part(index=2, num_parts=3))
    for index in (2, 0):
        build_part(configure(images, out), Part(index=index, num_parts=3))
    report = finalize(out)
    assert (report.num_patches, report.num_shards_reused) == (15, 8)
    assert contents(out) == whole


class Stopping(SerialExecutor):
    """Stops after so many shards."""

    def __init__(self, num_shards, error):
        super().__init__(1)
        self._num_shards, self._error = num_shards, error

    def run(self, function, jobs):
        yield from super().run(function, jobs[: self._num_shards])
        raise self._error


def test_status_follows_a_build(images, out):
    seen = []

    def look(progress):
        if progress.phase == "build":
            seen.append(read_status(out))

    with pytest.raises(BuildError, match="enough"):
        build(configure(images, out), executor=Stopping(3, BuildError("enough")), progress=look)
    assert [(status.state, status.num_done) for status in seen] == [("building", number) for number in (1, 2, 3)]
    assert {builder.pid for status in seen for builder in status.builders} == {os.getpid()}
    status = read_status(out)
    assert (status.state, status.num_done, status.builders, status.running) == ("stopped", 3, (), ())
    assert build(configure(images, out)).num_shards_reused == 3


def test_a_builder_whose_claim_was_taken_over_stops(images, whole, out, monkeypatch):
    monkeypatch.setenv("SSL_DATA_LEASE_SECONDS", "2")

    def overtake(progress):
        if progress.phase == "build" and progress.done == 2:
            open_target(out).remove(".build/lock")  # as if it had been stale
            with open_target(out).build_lock():
                pass
            time.sleep(1)

    with pytest.raises(StoreLockedError, match="the claim of this builder ran out"):
        build(configure(images, out), progress=overtake)
    build(configure(images, out))
    assert contents(out) == whole


def flip(content):
    return bytes([content[0] ^ 1]) + content[1:]


def test_any_damage_is_named_and_repaired(images, whole, out):
    build(configure(images, out))
    target = open_target(out)
    draw = random.Random(0)  # noqa: S311 - nothing secret
    for path in (*draw.sample(sorted(whole), 2), "zarr.json", "manifest/shard-00003.parquet", "ssg/c/5/0"):
        kind = draw.choice(["flip", "truncate", "remove"])
        target.remove(path) if kind == "remove" else target.put(
            path, flip(whole[path]) if kind == "flip" else whole[path][:-1]
        )
        try:
            assert path in {problem.where for problem in verify_store(out)}
        except (StoreIncompleteError, StoreCorruptError):
            assert path == "zarr.json"
        target.put("stray/object", b"")
        report = repair_store(out, RepairSources(dataset=str(images)))
        assert report.removed == ("stray/object",)
        assert contents(out) == whole, (path, kind)
    assert repair_store(out).nothing_to_do


def test_places_that_hold_something_else_are_refused(images, out, tmp_path):
    open_target(out).put("notes.txt", b"mine")
    with pytest.raises(StoreMismatchError, match=r"exists and is not a store \(notes.txt, ...\)"):
        build(configure(images, out))
    with pytest.raises(ConfigError, match="nothing can be written to a plain web server"):
        build(configure(images, "https://host/store.zarr"))
    build(configure(images, out + "2"))
    with pytest.raises(ConfigError, match="--retry-failed moves a new store to the place of the old one"):
        build(configure(images, out + "2"), retry_failed=True)


def start(images, out, *options, **variables):
    command = [*COMMAND, "build", "--dataset", str(images), "--out", out, *OPTIONS, *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | variables, **pipes)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Images of more shards, and the store as a folder, built by the command with its own options."""
    images = write_images(tmp_path_factory.mktemp("many") / "images", [(320, 320)] * 6)
    folder = images.parent / "whole"
    with start(images, str(folder)) as process:
        assert process.wait(120) == 0
    return images, contents_of(folder)


def kill_and_go_on(many, out, seed, seconds):
    """Kill a build three times at random instants, then let it end."""
    images, expected = many
    draw = random.Random(seed)  # noqa: S311 - nothing secret
    for _ in range(3):
        process = start(images, out)
        time.sleep(draw.uniform(0.5, seconds))
        process.kill()
        process.communicate()
    with start(images, out) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert contents(out) == expected


def test_a_build_killed_at_any_instant_goes_on(many, out):
    kill_and_go_on(many, out, seed=1, seconds=3)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_builds_killed_at_any_instant_go_on(many, seaweed_out):
    for seed in range(25):
        kill_and_go_on(many, f"{seaweed_out}-{seed}", seed, seconds=6)
        print(f"trial {seed}", flush=True)  # noqa: T201 - shown with -s


def wait_for_a_shard(url):
    give_up = time.monotonic() + 60
    target = open_target(url)
    while not target.sizes(["manifest/shard-00000.parquet"]):
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.mark.parametrize("fault", [None, "503", "slow"])
def test_an_interrupt_ends_soon_even_where_the_server_is_gone(many, out, proxy, fault):
    images, _ = many
    process = start(images, out, SSL_DATA_REMOTE_RETRIES="30", AWS_TIMEOUT="30s")
    wait_for_a_shard(out)
    proxy.every_fault, proxy.stall_seconds = fault, 20
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == 4, errors
    assert re.search(r"interrupted with \d+ of its shards done; the same command goes on", errors)
    proxy.reset()
    if fault is None:
        left = [path for path in open_target(out).entries() if path.startswith(".build")]
        assert all(path.startswith(".build/shard-") for path in left)  # a mark that was on its way; the lock is gone
        assert len(left) <= 1


def test_secrets_are_in_no_output(many, out, proxy, tmp_path):
    images, _ = many
    log = tmp_path / "log.jsonl"
    process = start(images, out, "--log", str(log), "--json", "--retries", "1", SSL_DATA_REMOTE_RETRIES="1")
    wait_for_a_shard(out)
    proxy.every_fault = "500"  # whose body repeats the secret
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.fullmatch(r"ssl-data: error: .*could not be .*\n", errors.splitlines(keepends=True)[-1])
    assert "shard-failed" in log.read_text() or "stopped" in log.read_text()
    proxy.every_fault = "403"
    with start(images, out, "--json") as process:
        refused = "".join(process.communicate(timeout=60))
    assert process.returncode == 1
    assert "was refused (403" in refused
    with start(images, f"s3://an-access-key:{SECRET}@bucket/store.zarr") as process:
        usage = "".join(process.communicate(timeout=60))
    assert process.returncode == 2
    assert "holds a user, a password" in usage
    proxy.reset()
    stored = b"".join(contents(out).values())
    for text in (output, errors, log.read_text(), refused, usage, stored.decode(errors="replace")):
        assert SECRET not in text
        assert "an-access-key" not in text


STORM = ["reset", "cut", "lost", "503", "500", "429", "truncate"]


def weather(config, expected, proxy, *, share, seed, num_stalls=0):
    """Build while requests fail; count the faults that were met."""
    draw = random.Random(seed)  # noqa: S311 - nothing secret
    storm = [draw.choice(STORM) if draw.random() < share else None for _ in range(20_000)]
    for place in draw.sample(range(20, 300), num_stalls):
        storm[place] = draw.choice(["stall", "slow"])
    proxy.faults.extend(storm)
    build(config)
    met = storm[: len(storm) - len(proxy.faults)]
    proxy.reset()
    assert contents(config.out) == expected
    assert verify_store(config.out) == []
    return len(met) - met.count(None)


@pytest.fixture
def seaweed_out(seaweed_proxy):
    return f"s3://bucket/built/{os.getpid()}/store-{next(serial)}.zarr"


def test_a_storm_of_faults_changes_nothing(images, whole, seaweed_out, seaweed_proxy, monkeypatch):
    monkeypatch.setenv("SSL_DATA_REMOTE_RETRIES", "12")
    config = configure(images, seaweed_out)
    assert weather(config, whole, seaweed_proxy, share=0.15, seed=0, num_stalls=2) > 5


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_storms_with_stalls_of_half_a_minute(shared_images, seaweed_out, seaweed_proxy, tmp_path, monkeypatch):
    """The limits of time and retries are those that users have."""
    for name in ("AWS_TIMEOUT", "SSL_DATA_REMOTE_RETRIES"):
        monkeypatch.delenv(name)
    seaweed_proxy.stall_seconds = 35
    images = shared_images / "bench-small"
    config = configure(images, tmp_path / "whole", edge_stride=3)
    config = replace(config, patch=PatchSpec(patch_size=128, step=128))
    build(config)
    expected = contents_of(tmp_path / "whole")
    for seed in range(int(os.environ.get("SSL_DATA_STORMS", "5"))):
        config = replace(config, out=f"{seaweed_out}-{seed}")
        num_faults = weather(config, expected, seaweed_proxy, share=0.1, seed=seed, num_stalls=2)
        print(f"storm {seed}: {num_faults} faults", flush=True)  # noqa: T201 - shown with -s
        assert num_faults > 20
