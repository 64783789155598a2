"""The part of packaging that pyproject.toml cannot express: mapped package folders and the C++ extension."""

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import find_packages, setup

ParallelCompile("SSL_DATA_BUILD_JOBS").install()
native = Pybind11Extension("ssl_data.kernels._native", ["ssl_data/kernels/native/ssg.cpp"], cxx_std=17, optional=True)
packages = [*find_packages(include=["ssl_data", "ssl_data.*"]), "ssl_data.cli", "ssl_data.manifests"]

setup(
    packages=packages,
    package_dir={"ssl_data": "ssl_data", "ssl_data.cli": "cli", "ssl_data.manifests": "manifests"},
    package_data={
        "ssl_data": ["py.typed", "*.pyi", "**/*.pyi", "**/FORMAT.md"],
        "ssl_data.manifests": ["**/*.yaml"],
    },
    ext_modules=[native],
    cmdclass={"build_ext": build_ext},
)
