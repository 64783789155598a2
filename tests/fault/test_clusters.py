"""Builds on clusters of several nodes that lose one of them, or the link to it."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("ray")

RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
CLUSTER_ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
NODE_OPTIONS = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]

THREE_NODES = """
import os, sys
from ray.cluster_utils import Cluster
memory = {"num_cpus": 1, "object_store_memory": 100 * 1024**2}
cluster = Cluster(initialize_head=True, head_node_args={**memory, "include_dashboard": False})
raylets = [cluster.add_node(**memory).all_processes["raylet"][0].process.pid for _ in range(2)]
print(cluster.address, *raylets, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def wait_for(condition, what, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def is_at_work(builds, raylet):
    """Whether a node is making a shard."""
    return any(builds.command_line(pid).startswith("ray::call") for pid in builds.descendants(raylet))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_a_cluster_of_three_nodes_loses_one(workers, builds, undisturbed, tmp_path):
    images, expected = undisturbed
    store = tmp_path / "store"
    builds.environment |= {**CLUSTER_ENVIRONMENT, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    cluster = subprocess.Popen(
        [sys.executable, "-c", THREE_NODES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=builds.environment,
        text=True,
    )
    try:
        address, *raylets = cluster.stdout.readline().split()
        raylets = list(map(int, raylets))
        build = builds.start(images, store, "--executor", "ray", "--ray-address", address, *workers)
        wait_for(
            lambda: len(builds.committed(store)) >= 3 and any(is_at_work(builds, pid) for pid in raylets), "shards"
        )
        victim = next(pid for pid in raylets if is_at_work(builds, pid))
        os.kill(victim, signal.SIGKILL)
        assert build.wait(builds.ends_within_seconds) == 0
    finally:
        pids = builds.descendants(cluster.pid)
        cluster.communicate(timeout=60)
    assert builds.differences(expected, store) == ""
    assert builds.outlived(pids) == []


class Network:
    """Two network namespaces, as two machines that share their disks, and the link between them."""

    def __init__(self, number):
        self.names = [f"ssl-data-{number}-{side}" for side in "ab"]
        self.addresses = ["10.213.77.1", "10.213.77.2"]
        self.devices = [f"sslv{number % 10**6}{side}" for side in "ab"]

    def open(self):
        for name in self.names:
            self._ip("netns", "add", name)
        self._ip("link", "add", self.devices[0], "type", "veth", "peer", "name", self.devices[1])
        for name, address, device in zip(self.names, self.addresses, self.devices, strict=True):
            self._ip("link", "set", device, "netns", name)
            self._ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            self._ip("-n", name, "link", "set", device, "up")
            self._ip("-n", name, "link", "set", "lo", "up")

    def cut(self):
        """Packets are lost from now on; nobody is told."""
        self._ip("-n", self.names[0], "link", "set", self.devices[0], "down")

    def close(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def inside(self, side):
        """What runs a command on one of the machines."""
        return ["ip", "netns", "exec", self.names[side]]

    @staticmethod
    def _ip(*arguments):
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this machine does not let us make networks: ip {' '.join(arguments)}: {done.stderr.strip()}")


@pytest.fixture
def network():
    network = Network(os.getpid())
    try:
        network.open()
        yield network
    finally:
        network.close()


@contextlib.contextmanager
def two_machines(builds, network):
    """A Ray cluster of two nodes with folders of their own; yields its address and what runs each node."""
    head, other = (builds.temporary / name for name in ("a", "b"))
    address = f"{network.addresses[0]}:6379"
    commands = [
        ["--head", "--port=6379", "--include-dashboard=false", f"--temp-dir={head}"],
        [f"--address={address}", f"--temp-dir={other}"],
    ]
    nodes = []
    try:
        for side, command in enumerate(commands):
            options = [f"--node-ip-address={network.addresses[side]}", *NODE_OPTIONS]
            nodes.append(
                subprocess.Popen(
                    [*network.inside(side), *RAY, "start", *command, *options],
                    env=builds.environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            wait_for(lambda node=nodes[-1]: raylets_of(builds, node), "a raylet")
        yield address, nodes
    finally:
        for node in nodes:
            for pid in [*builds.descendants(node.pid), node.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            node.wait(30)


def raylets_of(builds, node):
    lines = {pid: builds.command_line(pid) for pid in builds.descendants(node.pid)}
    return [pid for pid, line in lines.items() if line.split(" ")[0].endswith("/raylet")]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("side_of_driver", [0, 1], ids=["driver at the head", "driver cut off from the head"])
def test_the_link_between_two_machines_is_cut(side_of_driver, builds, undisturbed, network, tmp_path):
    images, expected = undisturbed
    store = tmp_path / "store"
    builds.environment |= CLUSTER_ENVIRONMENT
    with two_machines(builds, network) as (address, nodes):
        options = ("--executor", "ray", "--ray-address", address)
        log = tmp_path / "errors"
        with log.open("w") as errors:
            build = builds.start(images, store, *options, prefix=network.inside(side_of_driver), stderr=errors)
            (raylet,) = raylets_of(builds, nodes[1 - side_of_driver])
            wait_for(
                lambda: len(builds.committed(store)) >= 3 and is_at_work(builds, raylet), f"shards: {log.read_text()}"
            )
            began = time.monotonic()
            network.cut()
            code = build.wait(builds.ends_within_seconds)
        print(f"after the cut, the build ended with {code} in {time.monotonic() - began:.0f} s")  # noqa: T201 - with -s
        if side_of_driver == 0:
            assert code == 0, log.read_text()
    if code != 0:
        code, output = builds.run(images, store)
        assert code == 0, output
    assert builds.differences(expected, store) == ""
