// The Python module: checks, image preparation, threads, choice of the backend.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "problem.h"

namespace py = pybind11;

namespace ssg {

void add_sample(py::module_& module);  // in sample.cpp
void add_turn(py::module_& module);    // in turn.cpp

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

const Backend* const kBackends[] = {  // fastest first
#if defined(__x86_64__)
    &kAvx512, &kAvx2,
#endif
    &kPortable,
};

const Backend& find_backend(const std::string& name) {
    for (const Backend* backend : kBackends) {
        if ((name == backend->name || name == "native") && backend->supported()) return *backend;
    }
    throw std::invalid_argument("backend must be one of backends(), got '" + name + "'");
}

py::tuple backends() {
    py::list names;
    for (const Backend* backend : kBackends) {
        if (backend->supported()) names.append(backend->name);
    }
    return py::tuple(names);
}

// Owns what Image points to.
class PreparedImage {
   public:
    PreparedImage(const std::uint8_t* padded, int height, int width, int margin)
        : bytes_(std::size_t{3} * (height + margin) * width + 3 * margin + 2 * Image::kSlack),
          energy_((std::size_t{1} + height) * (std::size_t{1} + width) + Image::kSlack) {
        std::uint8_t* start = bytes_.data() + std::size_t{3} * margin * width + 3 * margin;
        std::copy_n(padded, std::size_t{3} * height * width, start);
        image_ = {height, width, start, std::ptrdiff_t{3} * width, energy_.data(), width + 1};
        integrate();
    }

    const Image& image() const { return image_; }

   private:
    void integrate() {
        const std::uint8_t* byte = image_.bytes;
        for (int y = 0; y < image_.height; ++y) {
            const std::uint32_t* above = energy_.data() + y * image_.energy_pitch + 1;
            std::uint32_t* row = energy_.data() + (y + 1) * image_.energy_pitch + 1;
            std::uint32_t sum = 0;
            for (int x = 0; x < image_.width; ++x, byte += 3) {
                for (int c = 0; c < 3; ++c) sum += std::uint32_t{byte[c]} * (byte[c] - 256U);
                row[x] = above[x] + sum;
            }
        }
    }

    std::vector<std::uint8_t> bytes_;
    std::vector<std::uint32_t> energy_;
    Image image_;
};

// Cache lines of uninitialised memory, aligned as backends require.
class Workspace {
   public:
    explicit Workspace(std::size_t bytes) : memory_(new char[bytes + 64]) {}

    void* get() const {
        const auto address = reinterpret_cast<std::uintptr_t>(memory_.get());
        return memory_.get() + (64 - address % 64) % 64;
    }

   private:
    std::unique_ptr<char[]> memory_;
};

// Threads take the pixels in small portions, so that none waits long for another. All memory is allocated before the
// first thread starts; if the system refuses a thread, the others do its work.
void run_threads(const Backend& backend, const Problem& problem, std::size_t count, int num_threads) {
    constexpr std::size_t kPortion = 256;
    const std::size_t useful = std::max<std::size_t>(1, (count + kPortion - 1) / kPortion);
    const std::size_t threads = std::min<std::size_t>(static_cast<std::size_t>(num_threads), useful);
    std::vector<Workspace> workspaces;
    for (std::size_t i = 0; i < threads; ++i) workspaces.emplace_back(backend.workspace_bytes(problem.geometry));
    std::atomic<std::size_t> next{0};
    const auto work = [&](void* workspace) {
        for (std::size_t first; (first = next.fetch_add(kPortion)) < count;) {
            backend.run(problem, first, std::min(first + kPortion, count), workspace);
        }
    };
    std::vector<std::thread> helpers;
    helpers.reserve(threads);
    try {
        for (std::size_t i = 1; i < threads; ++i) helpers.emplace_back(work, workspaces[i].get());
    } catch (const std::system_error&) {
    }
    work(workspaces[0].get());
    for (std::thread& helper : helpers) helper.join();
}

void require(bool ok, const char* rule) {
    if (!ok) throw std::invalid_argument(rule);
}

Geometry checked_geometry(int search_size, int window_size, int search_stride, bool zero_outside) {
    require(search_size > 0 && search_size % 2 == 1, "search_size must be odd and positive");
    require(window_size > 0 && window_size % 2 == 1 && window_size <= 91, "window_size must be odd, 1 to 91");
    require(search_stride > 0 && search_size / 2 % search_stride == 0, "search_stride must divide the search radius");
    return {search_size, window_size, search_stride, zero_outside};
}

void check_pixels(const Array<std::int32_t>& pixels, int height, int width) {
    require(pixels.ndim() == 2 && pixels.shape(1) == 2, "pixels must have shape (N, 2)");
    const auto values = pixels.unchecked<2>();
    for (py::ssize_t i = 0; i < values.shape(0); ++i) {
        const bool inside = values(i, 0) >= 0 && values(i, 0) < height && values(i, 1) >= 0 && values(i, 1) < width;
        require(inside, "pixels must lie in the image");
    }
}

CodeTable checked_table(int shift, const Array<std::uint8_t>& first, const Array<std::int32_t>& thresholds) {
    require(shift >= 0 && shift < 31, "shift must be 0 to 30");
    require(first.size() > 0, "first must not be empty");
    require(thresholds.size() == 256, "thresholds must have 256 entries");
    return {shift, static_cast<int>(first.size()), first.data(), thresholds.data()};
}

// S = exp(-ssd * scale) as a power of two. Bounded so that its product with any int32 is finite.
float exponent_scale(double scale) { return static_cast<float>(std::max(-scale * 1.4426950408889634, -1e28)); }

template <class T>
py::array_t<T> compute(const Array<std::uint8_t>& padded, const Array<std::int32_t>& pixels, Problem problem,
                       int num_threads, const std::string& backend_name) {
    const Backend& backend = find_backend(backend_name);
    const Geometry& geometry = problem.geometry;
    require(padded.ndim() == 3 && padded.shape(2) == 3, "padded must have shape (height, width, 3)");
    require(num_threads > 0, "num_threads must be positive");
    const int height = static_cast<int>(padded.shape(0));
    const int width = static_cast<int>(padded.shape(1));
    check_pixels(pixels, height - 2 * geometry.pad(), width - 2 * geometry.pad());
    const py::ssize_t count = pixels.shape(0);
    py::array_t<T> result({count, static_cast<py::ssize_t>(geometry.num_positions())});
    problem.pixels = pixels.data();
    problem.result = result.mutable_data();
    const std::uint8_t* bytes = padded.data();
    if (count > 0) {
        const py::gil_scoped_release release;
        const PreparedImage image(bytes, height, width, geometry.reach() - geometry.pad());
        problem.image = image.image();
        run_threads(backend, problem, static_cast<std::size_t>(count), num_threads);
    }
    return result;
}

py::array_t<std::int32_t> ssd(const Array<std::uint8_t>& padded, const Array<std::int32_t>& pixels, int search_size,
                              int window_size, int search_stride, bool zero_outside, int num_threads,
                              const std::string& backend) {
    Problem problem = {};
    problem.geometry = checked_geometry(search_size, window_size, search_stride, zero_outside);
    problem.output = Output::kSsd;
    return compute<std::int32_t>(padded, pixels, problem, num_threads, backend);
}

py::array_t<std::uint8_t> codes(const Array<std::uint8_t>& padded, const Array<std::int32_t>& pixels, int search_size,
                                int window_size, int search_stride, bool zero_outside, int num_threads,
                                const std::string& backend, double ssd_scale, int shift,
                                const Array<std::uint8_t>& first, const Array<std::int32_t>& thresholds) {
    Problem problem = {};
    problem.geometry = checked_geometry(search_size, window_size, search_stride, zero_outside);
    problem.output = Output::kCodes;
    problem.exponent_scale = exponent_scale(ssd_scale / 2);
    problem.table = checked_table(shift, first, thresholds);
    return compute<std::uint8_t>(padded, pixels, problem, num_threads, backend);
}

py::array_t<float> normalized(const Array<std::uint8_t>& padded, const Array<std::int32_t>& pixels, int search_size,
                              int window_size, int search_stride, bool zero_outside, int num_threads,
                              const std::string& backend, double ssd_scale) {
    Problem problem = {};
    problem.geometry = checked_geometry(search_size, window_size, search_stride, zero_outside);
    problem.output = Output::kNormalized;
    problem.exponent_scale = exponent_scale(ssd_scale);
    return compute<float>(padded, pixels, problem, num_threads, backend);
}

py::array_t<std::uint8_t> encode(const Array<std::int32_t>& ssd, const std::string& backend, double ssd_scale,
                                 int shift, const Array<std::uint8_t>& first, const Array<std::int32_t>& thresholds) {
    Problem problem = {};
    problem.exponent_scale = exponent_scale(ssd_scale / 2);
    problem.table = checked_table(shift, first, thresholds);
    const Backend& chosen = find_backend(backend);
    const std::int32_t* values = ssd.data();
    require(std::all_of(values, values + ssd.size(), [](std::int32_t value) { return value >= 0; }),
            "ssd must not be negative");
    py::array_t<std::uint8_t> result(ssd.size());
    chosen.encode(problem, values, static_cast<std::size_t>(ssd.size()), result.mutable_data());
    return result;
}

}  // namespace
}  // namespace ssg

PYBIND11_MODULE(_native, module) {
    module.doc() = "Self-similarity graphs of edge pixels, compiled; called through ssl_data.kernels.ssg.";
    module.def("backends", ssg::backends, "Names of the backends this processor can run, fastest first.");
    module.def("ssd", ssg::ssd, "int32 (N, K) sums of squared differences.");
    module.def("codes", ssg::codes, "uint8 (N, K) codes.");
    module.def("normalized", ssg::normalized, "float32 (N, K) normalised graphs.");
    module.def("encode", ssg::encode, "uint8 (n,) codes of int32 (n,) sums of squared differences.");
    ssg::add_sample(module);
    ssg::add_turn(module);
}
