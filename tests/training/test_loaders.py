"""The sampler with torchdata's loader, with distributed training, and with a trainer that is killed."""

import itertools
import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from ssl_data import PatchSampler, SelfSimilarityLoss, SSLCachedDataset, collate

# torchdata's


def stateful_loader(store, num_workers):
    dataset = SSLCachedDataset(store, crop_size=32, hflip=True, seed=4)
    sampler = PatchSampler(store, 5, seed=9)
    return StatefulDataLoader(dataset, batch_sampler=sampler, num_workers=num_workers, collate_fn=collate)


@pytest.mark.filterwarnings("ignore:.set_vital. is deprecated")  # torchdata 0.11 calls it
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("num_done", [0, 1, 4, 7, 10, 11])
def test_a_stateful_loader_resumes_at_the_next_batch(many, num_workers, num_done):
    loader = stateful_loader(many, 0)
    whole, following = list(loader), list(loader)
    assert len(whole) == 11
    loader = stateful_loader(many, num_workers)
    begun = list(itertools.islice(loader, num_done))
    resumed = stateful_loader(many, num_workers)
    resumed.load_state_dict(loader.state_dict())
    rest = list(resumed)
    expected = whole if num_done < len(whole) else whole + following
    assert [batch["patch_id"] for batch in begun + rest] == [batch["patch_id"] for batch in expected]
    assert all(torch.equal(one["gt"], other["gt"]) for one, other in zip(begun + rest, expected, strict=True))


# Distributed training

TRAINER = """
import json, os, sys
import torch
from ssl_data import PatchLoader, PatchSampler, SelfSimilarityLoss, SSLCachedDataset
rank, rendezvous, url = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
torch.manual_seed(rank)  # the wrapper makes the weights of rank 0 those of all
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Conv2d(3, 3, 3, padding=1))
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
dataset = SSLCachedDataset(url, crop_size=32, hflip=True, seed=2)
loader = PatchLoader(dataset, PatchSampler(dataset.store, 5, rank=rank, world_size=2, seed=3), num_workers=1)
loss = SelfSimilarityLoss(dataset.store.spec, kl_weight=100, l1_weight=100)
for epoch in range(2):
    for batch in loader:
        optimizer.zero_grad()
        loss(model(batch["gt"]), batch["ssg"]).total.backward()
        gradient = [parameter.grad.tolist() for parameter in model.parameters()]
        print(json.dumps({"epoch": epoch, "names": batch["patch_id"], "gradient": gradient}))
        optimizer.step()
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def two_ranks(many, tmp_path_factory):
    """What two processes that train together say of each step: one list per rank."""
    rendezvous = tmp_path_factory.mktemp("ranks") / "rendezvous"
    commands = [
        [sys.executable, "-W", "ignore", "-c", TRAINER, str(rank), str(rendezvous), str(many.root)] for rank in range(2)
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return [[json.loads(line) for line in output.splitlines()] for output in outputs]


def test_two_processes_visit_every_patch_once_in_an_epoch(many, two_ranks):
    names = [many.patch_id(index) for index in range(many.num_patches)]
    epochs = []
    for epoch in range(2):
        first, second = ([step["names"] for step in rank if step["epoch"] == epoch] for rank in two_ranks)
        assert len(first) == len(second) == 6
        visited = [name for step in first + second for name in step]
        assert sorted(visited) == sorted(names)
        epochs.append(visited)
    assert epochs[0] != epochs[1]


def test_two_processes_train_as_one_with_the_mean_of_their_gradients(many, two_ranks):
    """Step after step, in a model that never heard of the other process: also the last batches, which are smaller."""
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 3, 3, padding=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    dataset = SSLCachedDataset(many, crop_size=32, hflip=True, seed=2)
    index_of = {many.patch_id(index): index for index in range(len(dataset))}
    loss = SelfSimilarityLoss(many.spec, kl_weight=100, l1_weight=100)
    for first, second in zip(*two_ranks, strict=True):
        assert first["gradient"] == second["gradient"]
        dataset.set_epoch(first["epoch"])
        optimizer.zero_grad()
        for step in (first, second):
            batch = collate([dataset[index_of[name]] for name in step["names"]])
            (loss(model(batch["gt"]), batch["ssg"]).total / 2).backward()
        for found, parameter in zip(first["gradient"], model.parameters(), strict=True):
            assert parameter.grad.any()
            # Sums in another order: float32 rounds the largest by 1e-7, and a dozen steps add that up.
            error = (torch.tensor(found) - parameter.grad).abs().max()
            assert error <= 1e-4 * parameter.grad.abs().max()
        optimizer.step()


# A killed trainer

KILLED = """
import json, os, sys, time
import torch
from ssl_data import PatchLoader, PatchSampler, SelfSimilarityLoss, SSLCachedDataset
url, folder, num_workers, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
torch.manual_seed(0)
torch.set_num_threads(1)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 48, 3, padding=1), torch.nn.PixelShuffle(4))
optimizer = torch.optim.Adam(network.parameters())
dataset = SSLCachedDataset(url, crop_size=32, hflip=True, transpose=True, seed=4)
loader = PatchLoader(dataset, PatchSampler(dataset.store, 8, seed=9), num_workers=num_workers)
loss = SelfSimilarityLoss(dataset.store.spec)
checkpoint, step = os.path.join(folder, "checkpoint"), 0
if os.path.exists(checkpoint):
    state = torch.load(checkpoint)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    loader.load_state_dict(state["loader"])
    step = state["step"]
print(json.dumps({"step": step}), flush=True)
for epoch in range(loader.batch_sampler.epoch, 2):
    loader.set_epoch(epoch)
    for batch in loader:
        sr = network(batch["lq"])
        total = (sr - batch["gt"]).abs().mean() + loss(sr, batch["ssg"]).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        step += 1
        if step % 2 == 0:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save({**state, "loader": loader.state_dict()}, checkpoint + "~")
            os.replace(checkpoint + "~", checkpoint)
        names = batch["patch_id"]
        print(json.dumps({"step": step, "epoch": epoch, "names": names, "total": total.item()}), flush=True)
        time.sleep(pause)  # so that there is something left when the kill arrives
weights = [parameter.tolist() for parameter in network.parameters()]
print(json.dumps({"weights": weights}), flush=True)
"""


class Trainer:
    """A process that trains, and writes what it does into a file; a pipe its orphaned workers would keep open."""

    def __init__(self, store, folder, num_workers, *, pause=0.0):
        self.log = folder / f"log-{num_workers}"
        arguments = [str(store.root), str(folder), str(num_workers), str(pause)]
        command = [sys.executable, "-W", "ignore", "-c", KILLED, *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log)

    def lines(self):
        """The whole lines so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture(scope="module")
def uninterrupted(many, tmp_path_factory):
    trainer = Trainer(many, tmp_path_factory.mktemp("whole"), 0)
    assert trainer.process.wait(timeout=120) == 0
    assert [line.get("step") for line in trainer.lines()] == [*range(15), None]  # two epochs of seven steps
    return trainer.lines()


@pytest.mark.parametrize(("last_step", "workers"), [(3, (2, 1)), (9, (1, 0))], ids=str)
def test_training_killed_at_any_moment_goes_on_with_the_next_sample(many, uninterrupted, tmp_path, last_step, workers):
    """From its last checkpoint, with another number of workers, to the same samples, losses and weights."""
    killed = Trainer(many, tmp_path, workers[0], pause=0.4)
    while len(killed.lines()) <= last_step and killed.process.poll() is None:
        time.sleep(0.01)
    killed.process.kill()
    assert killed.process.wait(timeout=60) == -signal.SIGKILL
    seen = killed.lines()
    assert last_step < len(seen) < 15
    assert seen == uninterrupted[: len(seen)]
    resumed = Trainer(many, tmp_path, workers[1])
    assert resumed.process.wait(timeout=120) == 0
    start, *rest = resumed.lines()
    assert last_step - 1 <= start["step"] <= len(seen)  # where a checkpoint was written
    assert rest == uninterrupted[start["step"] + 1 :]


def test_a_plain_loader_resumes_after_what_the_trainer_has_finished(many):
    """Which the trainer has to say, because workers ask for more."""
    dataset = SSLCachedDataset(many, crop_size=32, seed=4)
    sampler = PatchSampler(many, 8, seed=9)
    whole = [batch["patch_id"] for batch in DataLoader(dataset, batch_sampler=sampler, collate_fn=collate)]
    sampler.set_epoch(0)
    loader = iter(DataLoader(dataset, batch_sampler=sampler, num_workers=2, collate_fn=collate))
    begun = [next(loader)["patch_id"] for _ in range(2)]
    resumed = PatchSampler(many, 8, seed=9)
    resumed.load_state_dict(sampler.state_dict(num_batches=2))
    rest = [batch["patch_id"] for batch in DataLoader(dataset, batch_sampler=resumed, collate_fn=collate)]
    assert begun + rest == whole
    assert sampler.state_dict()["num_batches"] > 2
