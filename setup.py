"""The part of packaging that pyproject.toml cannot express: mapped package folders and the C++ extensions."""

from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import find_packages, setup

ParallelCompile("SSL_DATA_BUILD_JOBS").install()


def extension(name: str, folder: str) -> Pybind11Extension:
    """An extension made of the C++ files of a folder."""
    return Pybind11Extension(
        name,
        sorted(map(str, Path(folder).glob("*.cpp"))),
        depends=sorted(map(str, Path("ssl_data").glob("*/native/*.h"))),
        cxx_std=17,
        # No -march: a wheel runs on every machine. The source files for newer processors say so themselves. GCC 12
        # suspects its own intrinsics, which pass undefined operands on purpose.
        extra_compile_args=["-O3", "-Wno-uninitialized", "-Wno-maybe-uninitialized"],
        optional=True,  # without a compiler everything works, only slower
    )


extensions = [
    extension("ssl_data.kernels._native", "ssl_data/kernels/native"),
    extension("ssl_data.store._native", "ssl_data/store/native"),
]
# Folders of the tree that are installed inside the package.
folders = {"ssl_data.benchmarks": "benchmarks", "ssl_data.cli": "cli", "ssl_data.manifests": "manifests"}
packages = [*find_packages(include=["ssl_data", "ssl_data.*"]), *folders]

setup(
    packages=packages,
    package_dir={"ssl_data": "ssl_data", **folders},
    package_data={
        "ssl_data": ["py.typed", "*.pyi", "**/*.pyi", "**/FORMAT.md", "report/*.css", "view/assets/*"],
        "ssl_data.manifests": ["datasets/*.yaml", "recipes/*.yaml", "cluster/*/*"],
    },
    ext_modules=extensions,
    cmdclass={"build_ext": build_ext},
)
