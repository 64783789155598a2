#!/usr/bin/env bash
# Builds the extension with AddressSanitizer, UndefinedBehaviorSanitizer and the assertions of pybind11 (e.g. that Python is
# not touched while other threads run) in a temporary folder and runs the tests of what is compiled against it. Needs GCC
# on Linux; takes some minutes. Extra arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

export CFLAGS="-g -UNDEBUG -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
export LDFLAGS="-fsanitize=address,undefined"
python setup.py --quiet build --build-base "$build" --build-lib "$build/lib"
unset CFLAGS LDFLAGS

# The interpreter is not instrumented, so the runtime has to be loaded before it; Python's own leaks are not ours.
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)"
export LD_PRELOAD
export PYTHONMALLOC=malloc # Python's own allocator would hide what lies behind small objects
export ASAN_OPTIONS=detect_leaks=0:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export PYTHONPATH="$build/lib" PYTHONSAFEPATH=1 # not the package in this folder

python -c "from ssl_data.kernels import _native; assert _native.__file__.startswith('$build'), _native.__file__"
pytest -p no:cacheprovider tests/kernels/test_ssg_backends.py tests/kernels/test_ssg_inputs.py \
    tests/kernels/test_quantize.py tests/kernels/test_sample.py tests/store/test_gradient.py \
    tests/store/test_blosc.py tests/store/test_blocks.py tests/store/test_graph_encoder.py tests/store/test_tiles.py "$@"
