"""Recipes: what they say, which files are refused, and the datasets they make."""

import dataclasses

import pytest
import torch
import yaml
from typer.testing import CliRunner

from ssl_data import SSLCachedDataset, collate
from ssl_data.cli.app import app
from ssl_data.config import EdgeSpec, SSGSpec
from ssl_data.errors import ConfigError, StoreMismatchError
from ssl_data.testing import tiny_store
from ssl_data.training.degradation import DEGRADATIONS, KERNEL_SIZE, draw_degradation
from ssl_data.training.recipes import Recipe, list_recipes, load_recipe

# The table of published trainings: crop, batch and its GPUs, beta, edge stride in effect, degradation.
PUBLISHED = {
    "ESRGAN-SSL": (128, 64, 1, 1000, 1, "bicubic"),
    "RankSRGAN-SSL": (296, 32, 1, 1000, 1, "bicubic"),
    "SPSR-SSL": (128, 30, 1, 1000, 1, "bicubic"),
    "BebyGAN-SSL": (192, 16, 1, 1000, 1, "bicubic"),
    "LDL-SSL": (128, 64, 1, 1000, 1, "bicubic"),
    "ELANGAN-SSL": (192, 16, 1, 1000, 1, "bicubic"),
    "SwinIRGAN-SSL": (256, 4, 1, 1000, 1, "bicubic"),
    "RealESRGAN-SSL": (256, 12, 1, 1000, 1, "realesrgan-hggt"),
    "BSRGAN-SSL": (256, 48, 4, 500, 3, "bsrgan"),
    "SwinIRGAN-BSRGAN-SSL": (256, 16, 4, 500, 3, "bsrgan"),
    "ELANGAN-BSRGAN-SSL": (192, 64, 4, 500, 3, "bsrgan"),
    "StableSR-SSL": (512, 4, 1, 500, 3, "stablesr"),
    "ResShift-SSL": (256, None, 1, None, 3, "stablesr"),
    "DiffIR-SSL": (256, 9, 1, None, 3, "stablesr"),
}

RECIPE = {
    "title": "A recipe for tests",
    "source": "nowhere",
    "family": "gan",
    "dataset": "synthetic",
    "scale": 4,
    "crop_size": 32,
    "flips": ["hflip", "vflip", "transpose"],
    "batch": {"size": 2, "gpus": 1},
    "loss": {"alpha": 1, "beta": 10.0},
    "edge": {"threshold": 20, "edge_stride": 1},
    "ssg": {"search_size": 25},
    "degradation": "bicubic",
}


def write_recipe(folder, **changes):
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return str(path)


def differences(recipe, store, **changes):
    with pytest.raises(StoreMismatchError, match=f"does not fit the recipe {recipe.name}") as refused:
        SSLCachedDataset.from_recipe(recipe, store, **changes)
    return refused.value.differences


def test_every_published_training_has_a_recipe():
    assert list_recipes() == sorted(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_hold_the_published_values(name):
    recipe = load_recipe(name)
    found = (recipe.crop_size, recipe.batch_size, recipe.batch_gpus, recipe.beta)
    assert (*found, recipe.edge.edge_stride, recipe.degradation) == PUBLISHED[name]
    assert (recipe.scale, recipe.alpha, recipe.edge.threshold) == (4, 1, 20)
    assert recipe.ssg == SSGSpec(search_size=25, window_size=9, bandwidth=0.004, boundary="zero")
    assert (recipe.hflip, recipe.vflip, recipe.transpose) == (True, *[recipe.family == "gan"] * 2)
    assert recipe.source.startswith("https://github.com/ChrisDud0257/SSL")
    assert recipe.name == name


def test_every_field_is_documented():
    lines = __import__("inspect").getsource(Recipe).splitlines()
    for field in dataclasses.fields(Recipe):
        at = next(number for number, line in enumerate(lines) if line.strip().startswith(f"{field.name}:"))
        assert lines[at + 1].strip().startswith('"""')


def test_where_written_and_effective_strides_differ_a_note_says_so():
    for name, (*_, stride, _) in PUBLISHED.items():
        noted = any("mask_stride 3" in note for note in load_recipe(name).notes)
        assert noted == (stride == 1)


def test_all_mistakes_of_a_file_are_listed_at_once(tmp_path):
    path = write_recipe(
        tmp_path,
        family="vae",
        crop_size="wide",
        flips=["hflip", "sideways"],
        batch=64,
        loss={"alpha": -1, "beta": None, "delta": 1},
        edge={"threshold": -2},
        ssg={"search_size": 24},
        degradation=["bicubic"],
        title="",
        colour="blue",
    )
    with pytest.raises(ConfigError) as refused:
        load_recipe(path)
    message = str(refused.value)
    for part in (
        "family must be one of gan, diffusion, got 'vae'",
        "crop_size must be an integer >= 1, got 'wide'",
        "flips must be a list out of hflip, vflip, transpose",
        "unknown field batch",
        "batch.size is missing",
        "loss.alpha must be a number >= 0, got -1",
        "unknown field loss.delta",
        "edge: EdgeSpec.threshold must be a finite number >= 0",
        "ssg: SSGSpec.search_size must be odd and positive, got 24",
        "degradation must be one of bicubic",
        "title must be a non-empty text",
        "unknown field colour",
    ):
        assert part in message
    assert len(message.splitlines()) > 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_size": 30}, "crop_size must be a multiple of scale 4"),
        ({"crop_size": 12}, "crop_size must be at least 13"),
        ({"edge": None}, "edge must be a mapping with the fields of EdgeSpec, got None"),
        ({"notes": "one"}, "notes must be a list of texts"),
        ({"scale": True}, "scale must be an integer"),
    ],
)
def test_single_mistakes_are_named(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(write_recipe(tmp_path, **changes))


@pytest.mark.parametrize(("text", "message"), [("- a\n", "is a mapping"), ("a: [", "is not YAML")])
def test_files_of_another_form_are_refused(tmp_path, text, message):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(path))


def test_unknown_names_are_refused_with_those_that_exist():
    with pytest.raises(ConfigError, match="recipe ESRGAN: neither .* ESRGAN-SSL"):
        load_recipe("ESRGAN")


def test_a_recipe_sets_the_options_of_the_dataset(store, tmp_path):
    path = write_recipe(tmp_path)
    made = SSLCachedDataset.from_recipe(path, store, seed=3)
    by_hand = SSLCachedDataset(
        store, crop_size=32, hflip=True, vflip=True, transpose=True, edge_stride=1, seed=3, degradation="bicubic"
    )
    for index in range(len(made)):
        assert torch.equal(made[index]["gt"], by_hand[index]["gt"])
        assert torch.equal(made[index]["lq"], by_hand[index]["lq"])
        assert torch.equal(made[index]["ssg"].codes, by_hand[index]["ssg"].codes)


def test_changes_win_over_the_recipe(store):
    dataset = SSLCachedDataset.from_recipe("BSRGAN-SSL", store, crop_size=32, edge_stride=1, degradation="bicubic")
    sample = dataset[0]
    assert sample["gt"].shape == (3, 32, 32)
    assert "lq" in sample
    assert "kernel1" not in sample
    whole = SSLCachedDataset.from_recipe("ESRGAN-SSL", store, crop_size=None)
    assert whole[0]["gt"].shape == (3, 64, 64)
    with pytest.raises(TypeError, match="colour"):
        SSLCachedDataset.from_recipe("ESRGAN-SSL", store, crop_size=32, colour="blue")


def test_edge_stride_of_a_recipe_is_applied(store):
    every = SSLCachedDataset.from_recipe("BSRGAN-SSL", store, crop_size=32, edge_stride=1)
    third = SSLCachedDataset.from_recipe("BSRGAN-SSL", store, crop_size=32)
    counts = [sum(len(dataset[index]["ssg"]) for index in range(len(store))) for dataset in (every, third)]
    assert 0.2 < counts[1] / counts[0] < 0.5
    pixels = third[0]["ssg"]
    assert (pixels.row % 3 == pixels.col % 3).all()


@pytest.mark.parametrize("name", sorted(set(DEGRADATIONS) - {"bicubic"}))
def test_drawn_degradations_take_the_place_of_lq(store, name):
    dataset = SSLCachedDataset(store, crop_size=32, hflip=True, seed=7, degradation=name)
    dataset.set_epoch(2)
    sample = dataset[1]
    expected = draw_degradation(DEGRADATIONS[name], seed=7, epoch=2, index=1)
    assert "lq" not in sample
    assert sample["kernel1"].shape == (KERNEL_SIZE, KERNEL_SIZE)
    assert sample["kernel1"].dtype == torch.float32
    for field, value in expected.items():
        assert torch.equal(sample[field], torch.from_numpy(value))
    plain = SSLCachedDataset(store, crop_size=32, hflip=True, seed=7)
    plain.set_epoch(2)
    assert torch.equal(sample["gt"], plain[1]["gt"])
    batch = collate([dataset[0], sample])
    assert batch["sinc_kernel"].shape == (2, KERNEL_SIZE, KERNEL_SIZE)


def test_workers_draw_the_same_degradations(store):
    dataset = SSLCachedDataset(store, crop_size=32, degradation="realesrgan")
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=collate)
    kernels = torch.cat([batch["kernel1"] for batch in loader])
    assert torch.equal(kernels, torch.stack([dataset[index]["kernel1"] for index in range(len(dataset))]))


def test_bicubic_insists_on_stored_patches(tmp_path):
    bare = tiny_store(tmp_path)
    with pytest.raises(ConfigError, match="'bicubic' needs low-quality patches"):
        SSLCachedDataset(bare, degradation="bicubic")
    assert "lq" not in SSLCachedDataset(bare)[0]


def test_all_differences_of_a_store_are_listed(tmp_path):
    other = tiny_store(tmp_path, edge_stride=2, threshold=10.0, boundary="image", bandwidth=0.01, lq_scale=2)
    assert differences(load_recipe("ESRGAN-SSL"), other) == (
        "ssg.bandwidth is 0.01 in the store, 0.004 in the recipe",
        "ssg.boundary is 'image' in the store, 'zero' in the recipe",
        "edge.threshold is 10 in the store, 20 in the recipe",
        "edge_stride is 2 in the store, 1 in the recipe; the change edge_stride=2 accepts it",
        "low-quality patches of scale 2 are in the store, the recipe needs scale 4: --lq-scale",
        "patches of the store are 64 pixels wide, crops of the recipe 128",
    )


def test_a_store_without_low_quality_patches_serves_drawn_degradations_only(tmp_path):
    bare = tiny_store(tmp_path, edge_stride=3)
    (missing,) = differences(load_recipe("LDL-SSL"), bare, crop_size=32, edge_stride=3)
    assert missing.startswith("no low-quality patches are in the store")
    assert "kernel2" in SSLCachedDataset.from_recipe("StableSR-SSL", bare, crop_size=None)[0]
    recipe = dataclasses.replace(load_recipe("BSRGAN-SSL"), edge=EdgeSpec(edge_stride=1), crop_size=32)
    (stride,) = differences(recipe, bare)
    assert stride.startswith("edge_stride is 3 in the store, 1 in the recipe")
    assert len(SSLCachedDataset.from_recipe(recipe, bare, edge_stride=None)) == len(bare)


def test_the_command_line_lists_and_explains_recipes():
    listed = CliRunner().invoke(app, ["datasets", "--recipes"])
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == list_recipes()
    explained = CliRunner().invoke(app, ["datasets", "--recipes", "StableSR-SSL"]).stdout
    for part in ("512x512", "hflip;", "beta 500", "gamma 0.1", "edge_stride 3", "stablesr", "value_range=(-1, 1)"):
        assert part in explained


def test_unknown_recipes_are_refused_on_the_command_line():
    refused = CliRunner().invoke(app, ["datasets", "--recipes", "nonsense"])
    assert isinstance(refused.exception, ConfigError)
