"""The sampler with other loaders and with distributed training."""

import json
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from ssl_data import PatchSampler, SSLCachedDataset, collate


def stateful_loader(store, num_workers):
    dataset = SSLCachedDataset(store, crop_size=32, hflip=True, seed=4)
    sampler = PatchSampler(store, 2, seed=9)
    return StatefulDataLoader(dataset, batch_sampler=sampler, num_workers=num_workers, collate_fn=collate)


@pytest.mark.filterwarnings("ignore:.set_vital. is deprecated")  # torchdata 0.11 calls it
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("num_done", [0, 1, 3])
def test_a_stateful_loader_resumes_at_the_next_batch(store, num_workers, num_done):
    whole = list(stateful_loader(store, 0))
    loader = stateful_loader(store, num_workers)
    iterator = iter(loader)
    for _ in range(num_done):
        next(iterator)
    state = loader.state_dict()
    resumed = stateful_loader(store, num_workers)
    resumed.load_state_dict(state)
    rest = list(resumed)
    assert [batch["patch_id"] for batch in rest] == [batch["patch_id"] for batch in whole[num_done:]]
    assert all(torch.equal(left["gt"], right["gt"]) for left, right in zip(rest, whole[num_done:], strict=True))


TRAINER = """
import sys, os
import torch
from torch.utils.data import DataLoader
from ssl_data import PatchSampler, SelfSimilarityLoss, SSLCachedDataset, collate
rank, rendezvous, url = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Conv2d(3, 3, 3, padding=1))
dataset = SSLCachedDataset(url, crop_size=32)
sampler = PatchSampler(dataset.store, 2, rank=rank, world_size=2, seed=3)
loss = SelfSimilarityLoss(dataset.store.spec)
visited = []
for batch in DataLoader(dataset, batch_sampler=sampler, num_workers=1, collate_fn=collate):
    model.zero_grad()
    loss(model(batch["gt"]), batch["ssg"]).total.backward()
    visited += batch["patch_id"]
gradient = float(model.module.weight.grad.abs().sum())
assert gradient > 0
print(gradient, ";".join(visited), sep="|")
torch.distributed.destroy_process_group()
"""


def test_two_processes_share_the_patches_and_the_gradient(store, tmp_path):
    commands = [
        [sys.executable, "-W", "ignore", "-c", TRAINER, str(rank), str(tmp_path / "rendezvous"), str(store.root)]
        for rank in range(2)
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    gradients, visited = zip(*(output.strip().splitlines()[-1].split("|") for output in outputs), strict=True)
    assert gradients[0] == gradients[1]
    names = [set(names.split(";")) for names in visited]
    assert not names[0] & names[1]
    assert names[0] | names[1] == {store.patch_id(index) for index in range(store.num_patches)}


KILLED = """
import sys, json
from torch.utils.data import DataLoader
from ssl_data import PatchSampler, SSLCachedDataset, collate
dataset = SSLCachedDataset(sys.argv[1], crop_size=32, hflip=True, seed=4)
sampler = PatchSampler(dataset.store, 2, seed=9)
for done, batch in enumerate(DataLoader(dataset, batch_sampler=sampler, num_workers=1, collate_fn=collate), start=1):
    print(json.dumps({"names": batch["patch_id"], "sum": float(batch["gt"].sum()),
                      "state": sampler.state_dict(num_batches=done)}), flush=True)
    if done == 2:
        sys.stdin.read()  # until killed
"""


def test_training_killed_in_mid_epoch_goes_on_with_the_next_sample(store):
    dataset = SSLCachedDataset(store, crop_size=32, hflip=True, seed=4)
    whole = list(DataLoader(dataset, batch_sampler=PatchSampler(store, 2, seed=9), collate_fn=collate))
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(store.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        process.kill()
    sampler = PatchSampler(store, 2, seed=9)
    sampler.load_state_dict(second["state"])
    rest = list(DataLoader(dataset, batch_sampler=sampler, collate_fn=collate))
    assert [first["names"], second["names"], *(batch["patch_id"] for batch in rest)] == [b["patch_id"] for b in whole]
    assert second["sum"] == pytest.approx(float(whole[1]["gt"].sum()))
    assert all(torch.equal(left["gt"], right["gt"]) for left, right in zip(rest, whole[2:], strict=True))
