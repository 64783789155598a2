"""How each published model is trained with the loss: crop, flips, batch, weights, edge pixels and degradation.

A recipe is a file ``manifests/recipes/NAME.yaml``, or one of the user's own with the same fields. Importable without
torch, so that the command line can list them quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import yaml

from ssl_data.config import EdgeSpec, SSGSpec
from ssl_data.errors import ConfigError, StoreMismatchError
from ssl_data.training.degradation import BICUBIC, DEGRADATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ssl_data.config import BuildSpec
    from ssl_data.store.reader import Store

__all__ = ["Family", "Recipe", "list_recipes", "load_recipe", "recipe_options", "store_differences"]

_Spec = TypeVar("_Spec", EdgeSpec, SSGSpec)

Family = Literal["gan", "diffusion"]

_FLIPS = ("hflip", "vflip", "transpose")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way of training, with the values that are in effect; see `notes` where a configuration says otherwise."""

    name: str
    """E.g. "ESRGAN-SSL"; the name of the file."""
    title: str
    """One line for a person."""
    source: str
    """Where the values come from."""
    family: Family
    """"gan": ``L_orig + beta L_SSL``; "diffusion": ``L_orig + beta L_SSL + gamma L1_pixel`` on the decoded image."""
    dataset: str
    """Images to build the store of."""
    scale: int
    """GT : LQ ratio."""
    crop_size: int
    """Side of the ground-truth crops, in pixels."""
    hflip: bool
    """Whether half of the crops are flipped horizontally."""
    vflip: bool
    """Whether half of the crops are flipped vertically."""
    transpose: bool
    """Whether half of the crops are transposed, after the flips."""
    batch_size: int | None
    """Samples of a batch over `batch_gpus` GPUs, as the configuration has it; None where none is published."""
    batch_gpus: int
    """How many GPUs share `batch_size`: 1 where the configuration counts per GPU."""
    alpha: float
    """Weight of the L1 term within the loss, ``l1_weight`` of `SelfSimilarityLoss`; the KL term has 1."""
    beta: float | None
    """Weight of the loss in the total; None where none is published."""
    gamma: float | None
    """Weight of the pixel loss on decoded images, for the family "diffusion"; None where there is none."""
    edge: EdgeSpec
    """Edge threshold, and the edge stride in effect."""
    ssg: SSGSpec
    """The graphs."""
    degradation: str
    """Name of what makes the low-quality images, see `ssl_data.training.degradation`."""
    notes: tuple[str, ...] = ()
    """Where written and effective values differ, and what else to know."""

    def dataset_options(self) -> dict[str, Any]:
        """The options of `SSLCachedDataset` that this recipe sets."""
        return {
            "crop_size": self.crop_size,
            "hflip": self.hflip,
            "vflip": self.vflip,
            "transpose": self.transpose,
            "edge_stride": self.edge.edge_stride,
            "degradation": self.degradation,
        }


def list_recipes() -> list[str]:
    """Names of the recipes that ship with the package."""
    folder = resources.files("ssl_data.manifests") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(recipe: str) -> Recipe:
    """The recipe of a model.

    Parameters
    ----------
    recipe : str
        A name from `list_recipes`, or the path of a ``.yaml`` file.

    Raises
    ------
    ConfigError
        If there is none of that name, or the file has mistakes; all of them are listed.
    """
    path = Path(recipe)
    if recipe in list_recipes():
        text = (resources.files("ssl_data.manifests") / "recipes" / f"{recipe}.yaml").read_text(encoding="utf-8")
        return _parse(text, recipe, recipe)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return _parse(path.read_text(encoding="utf-8"), recipe, path.stem)
    raise ConfigError(f"recipe {recipe}: neither a .yaml file nor one of the recipes: {', '.join(list_recipes())}")


def recipe_options(recipe: Recipe, store: Store, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `SSLCachedDataset` for a recipe with some changes.

    Raises
    ------
    StoreMismatchError
        If the store does not hold what the changed recipe needs; every difference is listed.
    """
    options = {**recipe.dataset_options(), **changes}
    differences = store_differences(recipe, store.build_spec, options)
    if differences:
        listing = "\n  ".join(differences)
        raise StoreMismatchError(f"{store.url} does not fit the recipe {recipe.name}:\n  {listing}", differences)
    return options


def store_differences(recipe: Recipe, built: BuildSpec, options: Mapping[str, Any]) -> tuple[str, ...]:
    """What keeps a store from serving a recipe, one readable line each.

    Parameters
    ----------
    recipe : Recipe
        Decides about graphs, edge threshold and scale.
    built : BuildSpec
        How the store was built.
    options : mapping
        "crop_size", "edge_stride" and "degradation" as they will be used; None leaves the choice to the store.
    """
    differences = [
        f"ssg.{name} is {found!r} in the store, {wanted!r} in the recipe"
        for (name, wanted), found in zip(recipe.ssg.to_dict().items(), built.ssg.to_dict().values(), strict=True)
        if found != wanted
    ]
    if built.edge.threshold != recipe.edge.threshold:
        differences.append(
            f"edge.threshold is {built.edge.threshold:g} in the store, {recipe.edge.threshold:g} in the recipe"
        )
    stride, stored = options["edge_stride"], built.edge.edge_stride
    if stride is not None and stored not in {1, stride}:
        differences.append(
            f"edge_stride is {stored} in the store, {stride} in the recipe; the change edge_stride={stored} accepts it"
        )
    scale = built.store.lq_scale
    if options["degradation"] == BICUBIC and scale != recipe.scale:
        found_scale = "no low-quality patches are" if scale is None else f"low-quality patches of scale {scale} are"
        differences.append(f"{found_scale} in the store, the recipe needs scale {recipe.scale}: --lq-scale")
    crop_size, patch_size = options["crop_size"], built.patch.patch_size
    if crop_size is not None and crop_size > patch_size:
        differences.append(f"patches of the store are {patch_size} pixels wide, crops of the recipe {crop_size}")
    return tuple(differences)


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _is_weight(value: object) -> bool:
    return type(value) in {int, float} and value >= 0  # type: ignore[operator]  # a number, by then


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) and entry for entry in value)


_Rule = tuple["Callable[[Any], bool]", str]
_TEXT: _Rule = (lambda value: isinstance(value, str) and bool(value), "be a non-empty text")
_COUNT: _Rule = (_is_count, "be an integer >= 1")
_OPTIONAL_WEIGHT: _Rule = (lambda value: value is None or _is_weight(value), "be a number >= 0, or null")

_RULES: dict[str, _Rule] = {
    "title": _TEXT,
    "source": _TEXT,
    "family": (lambda value: value in get_args(Family), f"be one of {', '.join(get_args(Family))}"),
    "dataset": _TEXT,
    "scale": _COUNT,
    "crop_size": _COUNT,
    "flips": (lambda value: _is_texts(value) and set(value) <= set(_FLIPS), f"be a list out of {', '.join(_FLIPS)}"),
    "batch.size": (lambda value: value is None or _is_count(value), "be an integer >= 1, or null"),
    "batch.gpus": _COUNT,
    "loss.alpha": (_is_weight, "be a number >= 0"),
    "loss.beta": _OPTIONAL_WEIGHT,
    "loss.gamma": _OPTIONAL_WEIGHT,
    "degradation": (lambda value: value in tuple(DEGRADATIONS), f"be one of {', '.join(DEGRADATIONS)}"),
    "notes": (_is_texts, "be a list of texts"),
}
"""Rule of each field, by its dotted name; ``edge`` and ``ssg`` have the rules of their specs."""

_OPTIONAL = {"loss.gamma", "notes"}


def _parse(text: str, where: str, name: str) -> Recipe:
    """The recipe in a YAML text; `where` is what error messages call it."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"recipe {where} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"recipe {where}: a recipe file is a mapping")
    problems: list[str] = []
    edge = _parse_spec(EdgeSpec, document.pop("edge", None), "edge", problems)
    ssg = _parse_spec(SSGSpec, document.pop("ssg", None), "ssg", problems)
    values = _flattened(document)
    problems += [f"unknown field {field}" for field in values if field not in _RULES]
    problems += [f"{field} is missing" for field in _RULES if field not in values and field not in _OPTIONAL]
    for field, (holds, rule) in _RULES.items():
        if field in values and not holds(values[field]):
            problems.append(f"{field} must {rule}, got {values[field]!r}")
    if not problems:
        problems += _crop_problems(values, ssg)
    if problems:
        raise ConfigError(f"recipe {where}:\n  " + "\n  ".join(problems))
    return Recipe(
        name=name,
        **{field: values[field] for field in ("title", "source", "family", "dataset", "scale", "crop_size")},
        hflip="hflip" in values["flips"],
        vflip="vflip" in values["flips"],
        transpose="transpose" in values["flips"],
        batch_size=values["batch.size"],
        batch_gpus=values["batch.gpus"],
        alpha=float(values["loss.alpha"]),
        beta=values["loss.beta"],
        gamma=values.get("loss.gamma"),
        edge=edge,
        ssg=ssg,
        degradation=values["degradation"],
        notes=tuple(values.get("notes", ())),
    )


def _flattened(document: dict[str, Any]) -> dict[str, Any]:
    """The fields by dotted name: ``{"loss": {"beta": 1}}`` becomes ``{"loss.beta": 1}``."""
    values: dict[str, Any] = {}
    for field, value in document.items():
        if isinstance(value, dict):
            values |= {f"{field}.{name}": entry for name, entry in value.items()}
        else:
            values[str(field)] = value
    return values


def _parse_spec(kind: type[_Spec], values: Any, field: str, problems: list[str]) -> _Spec:  # noqa: ANN401 - from YAML
    if not isinstance(values, dict):
        problems.append(f"{field} must be a mapping with the fields of {kind.__name__}, got {values!r}")
        return kind()
    try:
        return kind.from_dict(values)
    except ConfigError as error:
        problems.append(f"{field}: {error}")
        return kind()


def _crop_problems(values: dict[str, Any], ssg: SSGSpec) -> list[str]:
    """What is wrong with a crop size that is a number."""
    crop_size, problems = values["crop_size"], []
    if crop_size % values["scale"]:
        problems.append(f"crop_size must be a multiple of scale {values['scale']}, got {crop_size}")
    if crop_size < ssg.min_side:
        problems.append(f"crop_size must be at least {ssg.min_side} for this ssg, got {crop_size}")
    return problems
