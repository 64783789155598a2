"""Training with Lightning."""

import json
import os
import subprocess
import sys

import pytest
import torch

from ssl_data import PatchLoader, PatchSampler, SelfSimilarityLoss, SSGBatch, SSLCachedDataset, collate

lightning = pytest.importorskip("lightning", reason="Lightning is not installed: pip install lightning")

# What Lightning says about a small run on a machine with few cores, which is none of our business.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning"),  # of later checkpoints, as meant here
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),  # by PyTorch
    pytest.mark.filterwarnings("ignore:This DataLoader will create . worker processes:UserWarning"),
]

BATCH_SIZE = 9
NUM_BATCHES = 6  # of an epoch


class Network(lightning.LightningModule):
    """A small network that notes what it is given."""

    def __init__(self, spec):
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(torch.nn.Conv2d(3, 48, 3, padding=1), torch.nn.PixelShuffle(4))
        self.self_similarity = SelfSimilarityLoss(spec)
        self.seen = []

    def training_step(self, batch, batch_idx):
        assert isinstance(batch["ssg"], SSGBatch)
        self.seen.append((self.current_epoch, batch_idx, batch["patch_id"], batch["gt"].clone()))
        sr = self.network(batch["lq"])
        return (sr - batch["gt"]).abs().mean() + 10 * self.self_similarity(sr, batch["ssg"]).total

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def loader_of(store, num_workers=0):
    dataset = SSLCachedDataset(store, crop_size=32, hflip=True, transpose=True, seed=3)
    return PatchLoader(dataset, PatchSampler(store, BATCH_SIZE, seed=3), num_workers=num_workers)


def fit(store, folder, *, num_workers=0, checkpoint=None, **options):
    """Train in a new trainer, with a checkpoint after every step; return the module."""
    module = Network(store.spec)
    keep = lightning.pytorch.callbacks.ModelCheckpoint(
        folder, filename="{step}", every_n_train_steps=1, save_top_k=-1, auto_insert_metric_name=False
    )
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=2,
        callbacks=[keep],
        **options,
    )
    trainer.fit(module, loader_of(store, num_workers), ckpt_path=checkpoint)
    return module


def planned(store, epoch):
    """What an epoch must be: (epoch, number of the batch, names, images) without any loader."""
    dataset = loader_of(store).dataset
    dataset.set_epoch(epoch)
    sampler = PatchSampler(store, BATCH_SIZE, seed=3)
    sampler.set_epoch(epoch)
    batches = [collate([dataset[index] for index in indices]) for indices in sampler]
    return [(epoch, number, batch["patch_id"], batch["gt"]) for number, batch in enumerate(batches)]


def assert_seen(module, expected):
    assert [one[:3] for one in module.seen] == [one[:3] for one in expected]
    assert all(torch.equal(one[3], other[3]) for one, other in zip(module.seen, expected, strict=True))


@pytest.fixture(scope="module")
def uninterrupted(many, tmp_path_factory):
    """A run over two epochs, and the checkpoints after each of its steps."""
    folder = tmp_path_factory.mktemp("lightning")
    return fit(many, folder), folder


def test_every_epoch_is_the_planned_one(many, uninterrupted):
    assert_seen(uninterrupted[0], planned(many, 0) + planned(many, 1))
    assert len(uninterrupted[0].seen) == 2 * NUM_BATCHES


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("step", [1, 4, NUM_BATCHES, NUM_BATCHES + 2, 2 * NUM_BATCHES - 1])
def test_a_new_trainer_goes_on_with_the_next_sample(many, uninterrupted, step, num_workers, tmp_path):
    """Also with another number of workers; in the end it has the weights of the run that was not interrupted."""
    whole, folder = uninterrupted
    resumed = fit(many, tmp_path, num_workers=num_workers, checkpoint=folder / f"{step}.ckpt")
    assert_seen(resumed, (planned(many, 0) + planned(many, 1))[step:])
    for found, expected in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_epochs_that_are_cut_short_differ_nevertheless(many, num_workers, tmp_path):
    """Lightning tells the sampler the epoch."""
    module = fit(many, tmp_path, num_workers=num_workers, limit_train_batches=2)
    assert_seen(module, planned(many, 0)[:2] + planned(many, 1)[:2])


def test_batches_are_moved_to_the_device(many):
    batch = next(iter(loader_of(many)))
    moved = lightning.fabric.utilities.move_data_to_device(batch, torch.device("meta"))
    ssg = moved["ssg"]
    assert isinstance(ssg, SSGBatch)
    assert all(tensor.is_meta for tensor in (moved["gt"], ssg.codes, ssg.image, ssg.row, ssg.col))
    assert moved["patch_id"] == batch["patch_id"]


TWO_DEVICES = """
import json, sys
import lightning, torch
from ssl_data import PatchLoader, PatchSampler, SelfSimilarityLoss, SSGSpec, SSLCachedDataset
url, folder = sys.argv[1:]
class Network(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network, self.self_similarity = torch.nn.Conv2d(3, 3, 3, padding=1), SelfSimilarityLoss(SSGSpec())
        self.seen = []
    def train_dataloader(self):
        dataset, place = SSLCachedDataset(url, crop_size=32), self.trainer
        sampler = PatchSampler(dataset.store, 5, rank=place.global_rank, world_size=place.world_size)
        return PatchLoader(dataset, sampler)
    def training_step(self, batch, batch_idx):
        self.seen += batch["patch_id"]
        return self.self_similarity(self.network(batch["gt"]), batch["ssg"]).total
    def on_train_epoch_end(self):
        with open(f"{folder}/{self.trainer.global_rank}", "a") as file:
            print(json.dumps(self.seen), file=file)
        self.seen = []
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)
quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
lightning.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, use_distributed_sampler=False, **quiet
).fit(Network())
"""


def test_two_devices_share_every_epoch(many, tmp_path):
    script = tmp_path / "train.py"  # which Lightning starts a second time
    script.write_text(TWO_DEVICES)
    command = [sys.executable, "-W", "ignore", str(script), str(many.root), str(tmp_path)]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    subprocess.run(command, check=True, env=environment, timeout=120, capture_output=True)
    first, second = ([json.loads(line) for line in (tmp_path / rank).read_text().splitlines()] for rank in "01")
    assert len(first) == len(second) == 2
    names = sorted(many.patch_id(index) for index in range(many.num_patches))
    assert all(sorted(own + other) == names for own, other in zip(first, second, strict=True))
    assert first[0] != first[1]
