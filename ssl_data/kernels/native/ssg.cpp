// The Python module: checks, threads, choice of the backend.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

#include "arrays.h"
#include "image.h"
#include "unlocked.h"

namespace py = pybind11;

namespace ssl_data {

void add_sample(py::module_& module);  // in sample.cpp
void add_turn(py::module_& module);    // in turn.cpp

namespace {

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

// Throws an IndexError unless all pixels lie in the image; there is at least one.
Box bounding_box(const std::int32_t* pixels, std::size_t count, int height, int width) {
    Box box = {pixels[0], pixels[0], pixels[1], pixels[1]};
    for (std::size_t i = 0; i < count; ++i, pixels += 2) {
        box.top = std::min(box.top, pixels[0]);
        box.bottom = std::max(box.bottom, pixels[0]);
        box.left = std::min(box.left, pixels[1]);
        box.right = std::max(box.right, pixels[1]);
    }
    const bool inside = box.top >= 0 && box.left >= 0 && box.bottom < height && box.right < width;
    if (!inside) throw std::out_of_range("pixels must lie in the image");
    return box;
}

// Throws an IndexError for a row outside 0..num_rows-1, or one that comes twice: two threads might write it.
void check_rows(const std::int64_t* rows, std::size_t count, py::ssize_t num_rows) {
    std::vector<bool> taken(static_cast<std::size_t>(num_rows));
    for (std::size_t i = 0; i < count; ++i) {
        if (rows[i] < 0 || rows[i] >= num_rows) throw std::out_of_range("rows must lie in the result");
        const auto row = static_cast<std::size_t>(rows[i]);
        if (taken[row]) throw std::out_of_range("rows must differ from one another");
        taken[row] = true;
    }
}

// All that does not depend on the image: made once for a spec and a backend, called for many images.
class Kernel {
   public:
    Kernel(const std::string& backend, int search_size, int window_size, int search_stride, bool zero_outside,
           double ssd_scale, int shift, const Array<std::uint8_t>& first, const Array<std::int32_t>& thresholds)
        : backend_(find_backend(backend)), geometry_{search_size, window_size, search_stride, zero_outside},
          scale_(ssd_scale), first_(first), thresholds_(thresholds),
          table_{shift, static_cast<int>(first.size()), first.data(), thresholds.data()} {
        require(search_size > 0 && search_size % 2 == 1, "search_size must be odd and positive");
        require(window_size > 0 && window_size % 2 == 1 && window_size <= 91, "window_size must be odd, 1 to 91");
        require(search_stride > 0 && search_size / 2 % search_stride == 0,
                "search_stride must divide the search radius");
        require(shift >= 0 && shift < 31, "shift must be 0 to 30");
        require(first.size() > 0, "first must not be empty");
        require(thresholds.size() == 256, "thresholds must have 256 entries");
    }

    // Row rows[i] of the result, or row i without rows, becomes the graph of pixel i.
    template <class T>
    void run(const Array<std::uint8_t>& image, const Array<std::int32_t>& pixels,
             const std::optional<Array<std::int64_t>>& rows, Array<T>& result, int num_threads) const {
        require(image.ndim() == 3 && image.shape(2) == 3, "image must have shape (height, width, 3)");
        require(pixels.ndim() == 2 && pixels.shape(1) == 2, "pixels must have shape (N, 2)");
        require(result.ndim() == 2 && result.shape(1) == geometry_.num_positions(), "result must have shape (M, K)");
        require(num_threads > 0, "num_threads must be positive");
        const auto count = static_cast<std::size_t>(pixels.shape(0));
        const int height = static_cast<int>(image.shape(0));
        const int width = static_cast<int>(image.shape(1));
        require(std::min(height, width) > geometry_.pad(), "image must be larger than the padding");
        Problem problem = {};
        problem.geometry = geometry_;
        problem.output = output<T>();
        problem.exponent_scale = exponent_scale(problem.output);
        problem.table = table_;
        problem.pixels = pixels.data();
        problem.result = result.mutable_data();
        if (rows) {
            require(static_cast<std::size_t>(rows->size()) == count, "rows must be as many as pixels");
            check_rows(rows->data(), count, result.shape(0));
            problem.rows = rows->data();
        } else {
            require(static_cast<std::size_t>(result.shape(0)) == count, "result must have as many rows as pixels");
        }
        if (count == 0) return;
        const Box box = bounding_box(problem.pixels, count, height, width);
        const std::uint8_t* bytes = image.data();
        const Unlocked unlocked;
        const PreparedImage prepared(bytes, height, width, box, geometry_, backend_.planar);
        problem.image = prepared.image();
        run_threads(backend_, problem, count, num_threads);
    }

    // Codes of plain sums of squared differences.
    py::array_t<std::uint8_t> encode(const Array<std::int32_t>& ssd) const {
        Problem problem = {};
        problem.output = Output::kCodes;
        problem.exponent_scale = exponent_scale(Output::kCodes);
        problem.table = table_;
        const std::int32_t* values = ssd.data();
        require(std::all_of(values, values + ssd.size(), [](std::int32_t value) { return value >= 0; }),
                "ssd must not be negative");
        py::array_t<std::uint8_t> result(ssd.size());
        backend_.encode(problem, values, static_cast<std::size_t>(ssd.size()), result.mutable_data());
        return result;
    }

   private:
    template <class T>
    static constexpr Output output() {
        if (std::is_same_v<T, float>) return Output::kNormalized;
        return std::is_same_v<T, std::uint8_t> ? Output::kCodes : Output::kSsd;
    }

    // S = exp(-ssd * scale) as a power of two; codes are of its square root. Bounded so that its product with any int32
    // is finite.
    float exponent_scale(Output output) const {
        const double scale = output == Output::kCodes ? scale_ / 2 : scale_;
        return static_cast<float>(std::max(-scale * 1.4426950408889634, -1e28));
    }

    const Backend& backend_;
    const Geometry geometry_;
    const double scale_;
    const Array<std::uint8_t> first_;  // kept alive for the table
    const Array<std::int32_t> thresholds_;
    const CodeTable table_;
};

template <class T>
void define_run(py::class_<Kernel>& kernel, const char* name, const char* doc) {
    kernel.def(name, &Kernel::run<T>, doc, py::arg("image").noconvert(), py::arg("pixels").noconvert(),
               py::arg("rows").noconvert(), py::arg("result").noconvert(), py::arg("num_threads"));
}

}  // namespace
}  // namespace ssl_data

PYBIND11_MODULE(_native, module) {
    module.doc() = "Self-similarity graphs of edge pixels, compiled; called through ssl_data.kernels.ssg.";
    module.def("backends", ssl_data::backends, "Names of the backends this processor can run, fastest first.");
    py::class_<ssl_data::Kernel> kernel(module, "Kernel", "A spec and a backend, ready to be called for images.");
    kernel.def(py::init<const std::string&, int, int, int, bool, double, int, const ssl_data::Array<std::uint8_t>&,
                        const ssl_data::Array<std::int32_t>&>());
    ssl_data::define_run<std::int32_t>(kernel, "ssd", "Write int32 (M, K) sums of squared differences.");
    ssl_data::define_run<std::uint8_t>(kernel, "codes", "Write uint8 (M, K) codes.");
    ssl_data::define_run<float>(kernel, "normalized", "Write float32 (M, K) normalised graphs.");
    kernel.def("encode", &ssl_data::Kernel::encode, "uint8 (n,) codes of int32 (n,) sums of squared differences.");
    ssl_data::add_sample(module);
    ssl_data::add_turn(module);
}
