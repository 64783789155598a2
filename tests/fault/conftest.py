"""Builds as processes that can be followed, killed and cleaned up after."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from ssl_data.cli.app import main; main()"]
OPTIONS = ["--patch-size", "64", "--step", "64", "--edge-stride", "3", "--compression", "balanced"]
"""Some twenty shards of each million pixels, in a second or two."""
ENDS_WITHIN_SECONDS = 240


class Builds:
    """Starts builds with a folder for temporary files of their own, and looks at what becomes of their processes."""

    ends_within_seconds = ENDS_WITHIN_SECONDS

    def __init__(self, temporary):
        self.temporary = temporary
        self.environment = {**os.environ, "TMPDIR": str(temporary)}
        self.environment.pop("RAY_TMPDIR", None)

    def command(self, images, store, *options):
        command = [*COMMAND, "build", "--dataset", images, "--out", store, *OPTIONS, *options]
        return list(map(str, command))

    def start(self, images, store, *options, prefix=(), **streams):
        """A build as a process; `prefix` is a command that runs it."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams}
        return subprocess.Popen([*prefix, *self.command(images, store, *options)], env=self.environment, **quiet)

    def run(self, images, store, *options, prefix=()):
        """A whole build: its exit code, and what it says on standard error."""
        command = [*prefix, *self.command(images, store, *options)]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=ENDS_WITHIN_SECONDS
        )
        return done.returncode, done.stderr

    @staticmethod
    def committed(store):
        """The records of the shards that are there."""
        return list(store.glob("manifest/shard-*.parquet"))

    @staticmethod
    def differences(left, right):
        """Between two folders, byte for byte, in the words of `diff`."""
        done = subprocess.run(["diff", "-r", left, right], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    @staticmethod
    def command_line(pid):
        """What a process was started as; empty where there is none, or it has ended and nobody has asked how."""
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""

    @classmethod
    def descendants(cls, pid):
        """Processes that a process has started, and theirs."""
        found = []
        for place in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                children = [int(child) for child in place.read_text().split()]
            except OSError:
                continue
            for child in children:
                found += [child, *cls.descendants(child)]
        return found

    @classmethod
    def outlived(cls, pids):
        """Those of some processes that are still there after a while."""
        left = []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            left = [f"{pid}: {cls.command_line(pid)}" for pid in pids if cls.command_line(pid)]
            if not left:
                break
            time.sleep(0.2)
        return left

    def leftovers(self, shared_memory_before):
        """Files that builds have left outside of their stores: sessions of Ray, temporary files, shared memory."""
        left = []
        deadline = time.monotonic() + 30  # other programs use shared memory, too, but not for long
        while time.monotonic() < deadline:
            left = [*map(str, self.temporary.iterdir()), *sorted(self.shared_memory() - shared_memory_before)]
            if not left:
                break
            time.sleep(0.2)
        return left

    @staticmethod
    def shared_memory():
        return {str(path) for path in Path("/dev/shm").iterdir()}  # noqa: S108 - looked at only


@pytest.fixture
def builds():
    with tempfile.TemporaryDirectory(prefix="ssl-", dir="/tmp") as temporary:
        yield Builds(Path(temporary))


def build_in_peace(images, folder):
    (folder / "temporary").mkdir()
    code, errors = Builds(folder / "temporary").run(images, folder / "store", "--workers", "1")
    assert code == 0, errors
    return images, folder / "store"


@pytest.fixture(scope="session")
def undisturbed(shared_images, tmp_path_factory):
    """A few photographs, and a store of them that was built in peace; to be read only."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "images").mkdir()
    for name in ("gb82_dog-lossless.png", "gb82_waves-lossless.png", "kodak_23.png"):
        shutil.copy(shared_images / "bench-small" / name, folder / "images")
    return build_in_peace(folder / "images", folder)


@pytest.fixture(scope="session")
def many_undisturbed(shared_images, tmp_path_factory):
    """The same of more photographs."""
    return build_in_peace(shared_images / "bench-small", tmp_path_factory.mktemp("many"))
