// A program around the portable kernel, for machines on which the extension cannot be loaded into the tests: standard
// input holds a problem, standard output receives its result. See test_portable_elsewhere.py.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "image.h"

namespace {

template <class T>
std::vector<T> read(std::size_t count) {
    std::vector<T> values(count);
    if (std::fread(values.data(), sizeof(T), count, stdin) != count) std::abort();
    return values;
}

}  // namespace

int main() {
    const std::vector<std::int32_t> header = read<std::int32_t>(10);
    const int height = header[5];
    const int width = header[6];
    const auto count = static_cast<std::size_t>(header[7]);
    ssg::Problem problem = {};
    problem.geometry = {header[0], header[1], header[2], header[3] != 0};
    problem.output = static_cast<ssg::Output>(header[4]);
    problem.exponent_scale = read<float>(1)[0];
    const auto first = read<std::uint8_t>(static_cast<std::size_t>(header[9]));
    const auto thresholds = read<std::int32_t>(256);
    problem.table = {header[8], header[9], first.data(), thresholds.data()};
    const auto bytes = read<std::uint8_t>(std::size_t{3} * height * width);
    const auto pixels = read<std::int32_t>(2 * count);
    problem.pixels = pixels.data();

    const ssg::Backend& backend = ssg::kPortable;
    const ssg::Box all = {0, height - 1, 0, width - 1};
    const ssg::PreparedImage prepared(bytes.data(), height, width, all, problem.geometry, backend.planar);
    problem.image = prepared.image();
    const std::size_t value = problem.output == ssg::Output::kCodes ? 1 : 4;
    std::vector<char> result(count * static_cast<std::size_t>(problem.geometry.num_positions()) * value);
    problem.result = result.data();
    const std::size_t workspace = (backend.workspace_bytes(problem.geometry) + 63) / 64 * 64;
    void* memory = std::aligned_alloc(64, workspace);
    backend.run(problem, 0, count, memory);
    std::free(memory);
    return std::fwrite(result.data(), 1, result.size(), stdout) == result.size() ? 0 : 1;
}
