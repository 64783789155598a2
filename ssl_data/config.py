"""Frozen, validated descriptions of everything that determines the bytes of a store.

A spec is built once, checked at construction, and passed on unchanged. Its canonical JSON form is what a store
records and what the fingerprint hashes, so two specs are interchangeable exactly when their JSON is equal.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self, get_args

from ssl_data.errors import ConfigError

__all__ = [
    "ALGORITHM_VERSION",
    "CODE_TYPES",
    "LARGEST_CODES",
    "MAX_PIXELS",
    "Boundary",
    "BuildConfig",
    "BuildSpec",
    "Compression",
    "EdgePatches",
    "EdgeSpec",
    "FilterSpec",
    "ImageSpec",
    "MaskOrigin",
    "MultiscaleSpec",
    "MultiscaleVariant",
    "PatchSpec",
    "Quantization",
    "SSGSpec",
    "SmallImages",
    "StoreSpec",
    "canonical_json",
    "fingerprint",
]

Boundary = Literal["zero", "image"]
Compression = Literal["fast", "balanced", "small"]
Quantization = Literal["sqrt8", "sqrt12"]
SmallImages = Literal["reject", "upscale"]
EdgePatches = Literal["flush", "drop", "min-overlap"]
MaskOrigin = Literal["computed", "given"]
MultiscaleVariant = Literal["none", "gan", "diffusion"]

MAX_PIXELS = 512_000_000
"""Images that announce more pixels than this are usually meant to exhaust the memory of whoever opens them."""

LARGEST_CODES: dict[Quantization, int] = {"sqrt8": 255, "sqrt12": 4095}
"""The code of similarity 1, i.e. of the search centre."""
CODE_TYPES: dict[Quantization, Literal["uint8", "uint16"]] = {"sqrt8": "uint8", "sqrt12": "uint16"}

STORED_AS_DIFFERENCES: frozenset[Compression] = frozenset({"small"})
"""Presets with which graph codes of one byte are stored as differences of neighbouring values; see FORMAT.md."""

ALGORITHM_VERSION = 3
"""Raised whenever the same inputs and specs would give other bytes; part of every fingerprint."""


def _require(spec: object, name: str, ok: bool, rule: str) -> None:  # noqa: FBT001 - an assertion reads best this way
    if not ok:
        raise ConfigError(f"{type(spec).__name__}.{name} must {rule}, got {getattr(spec, name)!r}")


def _require_int(spec: object, name: str, minimum: int) -> None:
    value = getattr(spec, name)
    _require(spec, name, type(value) is int and value >= minimum, f"be an integer >= {minimum}")


class _Spec:
    """What all specs share: a dictionary form that `from_dict` reads back, refusing unknown fields."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]  # every subclass is a dataclass

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The spec with these fields.

        Raises
        ------
        ConfigError
            For a field this version does not know: the values come from a newer or another program.
        """
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"{cls.__name__} has no field {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class EdgeSpec(_Spec):
    """Which pixels are edge pixels (paper section 3.2, Eq. 3)."""

    threshold: float = 20.0
    """A pixel is an edge pixel where the Laplacian of the grey image is greater than this (grey levels)."""
    edge_stride: int = 1
    """Keep edge pixels with ``row % edge_stride == col % edge_stride``; the authors' code calls it ``mask_stride``."""
    masks: MaskOrigin = "computed"
    """"computed": by this rule. "given": read from files, which then decide in place of `threshold`."""

    def __post_init__(self) -> None:
        threshold_ok = isinstance(self.threshold, int | float) and math.isfinite(self.threshold) and self.threshold >= 0
        _require(self, "threshold", threshold_ok, "be a finite number >= 0")
        object.__setattr__(self, "threshold", float(self.threshold))  # 20 and 20.0 are one spec, with one JSON form
        _require_int(self, "edge_stride", 1)
        _require(self, "masks", self.masks in get_args(MaskOrigin), "be 'computed' or 'given'")


@dataclass(frozen=True, kw_only=True)
class SSGSpec(_Spec):
    """The self-similarity graph of an edge pixel (paper sections 3.1 and 3.3, Eq. 1, 2 and 4)."""

    search_size: int = 25
    """Side of the square of search positions around the edge pixel, in pixels; odd. K_s in the paper."""
    window_size: int = 9
    """Side of the square windows that are compared, in pixels; odd. K_w in the paper."""
    bandwidth: float = 0.004
    """h in ``exp(-ssd / (C k^2) / h)``, for intensities in [0, 1]; ``scaling_factor`` in the authors' code."""
    boundary: Boundary = "zero"
    """What windows see outside the search area: "zero" zeros (the authors' code), "image" the image (the paper)."""
    search_stride: int = 1
    """Distance between search positions, in pixels; divides the search radius, so that the centre is one of them."""

    def __post_init__(self) -> None:
        for name in ("search_size", "window_size"):
            value = getattr(self, name)
            _require(self, name, type(value) is int and value > 0 and value % 2 == 1, "be odd and positive")
        # 3 * 91^2 * 255^2 is the largest sum of squared differences that an int32 holds.
        _require(self, "window_size", self.window_size <= 91, "be at most 91")
        bandwidth_ok = (
            isinstance(self.bandwidth, int | float)
            and self.bandwidth is not True
            and math.isfinite(self.bandwidth)
            and self.bandwidth > 0
        )
        _require(self, "bandwidth", bandwidth_ok, "be a finite number > 0")
        object.__setattr__(self, "bandwidth", float(self.bandwidth))
        _require(self, "boundary", self.boundary in get_args(Boundary), "be 'zero' or 'image'")
        _require_int(self, "search_stride", 1)
        divides = self.search_radius % self.search_stride == 0
        _require(self, "search_stride", divides, f"divide the search radius {self.search_radius}")

    @property
    def search_radius(self) -> int:
        """r: the largest row or column offset of a search position, in pixels."""
        return self.search_size // 2

    @property
    def window_radius(self) -> int:
        """f: the largest row or column offset inside a window, in pixels."""
        return self.window_size // 2

    @property
    def positions_per_side(self) -> int:
        """Search positions along one axis."""
        return 2 * (self.search_radius // self.search_stride) + 1

    @property
    def num_positions(self) -> int:
        """K: search positions of one edge pixel, i.e. values in one row of a graph."""
        return self.positions_per_side**2

    @property
    def pad(self) -> int:
        """How far the computation looks beyond an edge pixel, in pixels: the width of the reflection padding."""
        if self.boundary == "image":
            return self.search_radius + self.window_radius
        return max(self.search_radius, self.window_radius)

    @property
    def min_side(self) -> int:
        """Smallest image side: reflection without repeating the border needs one pixel more than the padding."""
        return self.pad + 1

    @property
    def ssd_scale(self) -> float:
        """Factor from a sum of squared differences of intensities in [0, 1] to the exponent: ``1 / (C k^2 h)``."""
        return 1.0 / (3 * self.window_size**2 * self.bandwidth)


@dataclass(frozen=True, kw_only=True)
class ImageSpec(_Spec):
    """Which images are taken."""

    max_pixels: int = MAX_PIXELS
    """Images that announce more pixels, or would be enlarged to more, are rejected before anything is decoded."""
    small_images: SmallImages = "reject"
    """What becomes of images smaller than a patch: "reject", or "upscale" until their shortest side is that of a patch
    (LANCZOS)."""

    def __post_init__(self) -> None:
        _require_int(self, "max_pixels", 1)
        _require(self, "small_images", self.small_images in get_args(SmallImages), "be 'reject' or 'upscale'")


@dataclass(frozen=True, kw_only=True)
class PatchSpec(_Spec):
    """How an image is cut into patches."""

    patch_size: int = 512
    """Height and width of a patch, in pixels."""
    step: int = 256
    """Distance between neighbouring patches, in pixels."""
    tail_threshold: int = 0
    """If more than this many pixels remain behind the last full step, one more patch lies flush with the far side."""
    edge_patches: EdgePatches = "flush"
    """What becomes of pixels behind the last full step. "flush": as `tail_threshold` says. "drop": they are in no
    patch. "min-overlap": the patches are spread evenly from side to side, neighbours more than half a step apart."""

    def __post_init__(self) -> None:
        _require_int(self, "patch_size", 1)
        _require_int(self, "step", 1)
        _require_int(self, "tail_threshold", 0)
        _require(
            self, "edge_patches", self.edge_patches in get_args(EdgePatches), "be 'flush', 'drop' or 'min-overlap'"
        )
        only_flush = self.tail_threshold == 0 or self.edge_patches == "flush"
        _require(self, "tail_threshold", only_flush, f"be 0 with edge_patches {self.edge_patches!r}")


@dataclass(frozen=True, kw_only=True)
class MultiscaleSpec(_Spec):
    """Reduced copies of each image that are cut into patches as well (the authors' preparation)."""

    variant: MultiscaleVariant = "none"
    """"none": only the image itself. "gan": copies at 3/4, 3/5 and 1/3 of its size, each only where its shorter side is
    at least `shortest_edge`, and a copy whose shorter side is `shortest_edge`. "diffusion": the three copies always,
    and that one. In both, the image itself only where its shorter side is at least `shortest_edge`."""
    shortest_edge: int = 512
    """In pixels."""

    def __post_init__(self) -> None:
        known = self.variant in get_args(MultiscaleVariant)
        _require(self, "variant", known, "be 'none', 'gan' or 'diffusion'")
        _require_int(self, "shortest_edge", 1)
        used = self.variant != "none" or self.shortest_edge == MultiscaleSpec.shortest_edge
        _require(self, "shortest_edge", used, f"be {MultiscaleSpec.shortest_edge} where the variant is 'none'")


@dataclass(frozen=True, kw_only=True)
class FilterSpec(_Spec):
    """Which patches are left out. Each of them stays in the manifest, with the reason."""

    min_edge_density: float = 0.0
    """Smallest share of edge pixels (before edge_stride) of a patch that is kept, 0 to 1."""
    drop_duplicates: bool = False
    """Whether, of several patches with equal pixels, only the first is kept."""

    def __post_init__(self) -> None:
        density = self.min_edge_density
        density_ok = type(density) in {int, float} and 0 <= density <= 1
        _require(self, "min_edge_density", density_ok, "be a number from 0 to 1")
        object.__setattr__(self, "min_edge_density", float(density))
        _require(self, "drop_duplicates", type(self.drop_duplicates) is bool, "be true or false")


@dataclass(frozen=True, kw_only=True)
class StoreSpec(_Spec):
    """How arrays are laid out and compressed on disk."""

    chunk_rows: int = 1024
    """Rows of one ``ssg`` chunk."""
    patches_per_shard: int = 16
    """Patches of one work unit: one file per array, written once by one worker."""
    compression: Compression = "fast"
    """"fast": LZ4, far cheaper to read than to recompute. "balanced": Zstandard, about a fifth smaller, three times
    slower to read. "small": a stronger Zstandard, for graphs on the differences of neighbouring values, a further sixth
    smaller and slower to build. Every chunk carries a checksum."""
    quantization: Quantization = "sqrt8"
    """How similarities S are stored. "sqrt8": ``round(255 sqrt(S))``, one byte. "sqrt12": ``round(4095 sqrt(S))``, two
    bytes, almost without loss."""
    lq_scale: int | None = None
    """If set, low-quality patches, reduced by this factor with antialiased bicubic interpolation, are stored too."""

    def __post_init__(self) -> None:
        _require(self, "compression", self.compression in get_args(Compression), "be 'fast', 'balanced' or 'small'")
        _require_int(self, "chunk_rows", 1)
        _require_int(self, "patches_per_shard", 1)
        _require(self, "quantization", self.quantization in get_args(Quantization), "be 'sqrt8' or 'sqrt12'")
        if self.lq_scale is not None:
            _require_int(self, "lq_scale", 2)


@dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """The seven specs that, together with the sources, decide every byte of a store."""

    image: ImageSpec = field(default_factory=ImageSpec)
    multiscale: MultiscaleSpec = field(default_factory=MultiscaleSpec)
    patch: PatchSpec = field(default_factory=PatchSpec)
    edge: EdgeSpec = field(default_factory=EdgeSpec)
    filter: FilterSpec = field(default_factory=FilterSpec)
    ssg: SSGSpec = field(default_factory=SSGSpec)
    store: StoreSpec = field(default_factory=StoreSpec)

    def __post_init__(self) -> None:
        if self.patch.patch_size < self.ssg.min_side:
            raise ConfigError(
                f"PatchSpec.patch_size must be at least {self.ssg.min_side} for a search area of "
                f"{self.ssg.search_size} with boundary {self.ssg.boundary!r}, got {self.patch.patch_size}"
            )
        if self.ssg.boundary == "zero" and self.ssg.window_size > self.ssg.search_size:
            raise ConfigError(
                f"SSGSpec.window_size must not exceed search_size in a store with boundary 'zero', got "
                f"{self.ssg.window_size} and {self.ssg.search_size}: the search centre would not have similarity 1"
            )
        scale = self.store.lq_scale
        if scale is not None and self.patch.patch_size % scale:
            raise ConfigError(
                f"PatchSpec.patch_size must be a multiple of lq_scale, got {self.patch.patch_size} and {scale}"
            )
        if self.edge.masks == "given" and self.multiscale.variant != "none":
            raise ConfigError(
                "MultiscaleSpec.variant must be 'none' with given masks, which fit the images as they are, "
                f"got {self.multiscale.variant!r}"
            )
        if self.edge.masks == "given" and self.image.small_images != "reject":
            raise ConfigError(
                "ImageSpec.small_images must be 'reject' with given masks, which fit the images as they are, "
                f"got {self.image.small_images!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The specs as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The specs with these fields, see `to_dict`."""
        return cls(
            image=ImageSpec.from_dict(values["image"]),
            multiscale=MultiscaleSpec.from_dict(values["multiscale"]),
            patch=PatchSpec.from_dict(values["patch"]),
            edge=EdgeSpec.from_dict(values["edge"]),
            filter=FilterSpec.from_dict(values["filter"]),
            ssg=SSGSpec.from_dict(values["ssg"]),
            store=StoreSpec.from_dict(values["store"]),
        )


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Everything a build needs to know; the specs decide the bytes, the rest only from where, whereto and how fast."""

    dataset: str
    """Name of a known dataset, a directory of images or its URL, or a dataset file (``.yaml``)."""
    out: str
    """Where the store goes: a folder, or a URL of an object store (s3://, gs://, az://)."""
    root: str | None = None
    """Folder, or URL, that holds the datasets' folders; the environment variable ``SSL_DATA_ROOT`` where not given."""
    strict: bool = False
    """Whether a folder with another number of images than its dataset file expects is an error, not a warning."""
    masks: str | None = None
    """Folder of edge masks (``.mat`` or ``.png``) by the names of the images; computed where not given."""
    image: ImageSpec = field(default_factory=ImageSpec)
    """Which images are taken."""
    multiscale: MultiscaleSpec | None = None
    """Reduced copies of images; the dataset's own choice, else none, where not given."""
    patch: PatchSpec | None = None
    """How images are cut; the dataset's own choice, else the defaults of `PatchSpec`, where not given."""
    edge: EdgeSpec = field(default_factory=EdgeSpec)
    """Which pixels are edge pixels."""
    filter: FilterSpec = field(default_factory=FilterSpec)
    """Which patches are left out."""
    ssg: SSGSpec = field(default_factory=SSGSpec)
    """The graph computed for each."""
    store: StoreSpec = field(default_factory=StoreSpec)
    """Layout and compression."""
    workers: int | None = None
    """Processes (Ray) or threads (serial); all usable cores where not given."""

    def spec(self, default_patch: PatchSpec, default_multiscale: MultiscaleSpec) -> BuildSpec:
        """The specs in force, with the dataset's own way of cutting where none was asked for."""
        return BuildSpec(
            image=self.image,
            multiscale=self.multiscale or default_multiscale,
            patch=self.patch or default_patch,
            edge=replace(self.edge, masks="computed" if self.masks is None else "given"),
            filter=self.filter,
            ssg=self.ssg,
            store=self.store,
        )

    def __post_init__(self) -> None:
        for name in ("dataset", "out"):
            _require(
                self, name, isinstance(getattr(self, name), str) and bool(getattr(self, name)), "be a non-empty string"
            )
        _require(self, "masks", self.masks != "", "be a folder")
        if self.edge.masks == "given" and self.masks is None:
            raise ConfigError("BuildConfig.masks must name the folder of the given masks, got None")
        if self.workers is not None:
            _require_int(self, "workers", 1)


def canonical_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """The one JSON text of a value: sorted keys, no spaces, shortest float form, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """SHA-256 (hexadecimal) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
