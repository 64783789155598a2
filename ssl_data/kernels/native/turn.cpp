// Images and graphs, turned: flipped and transposed, on their way from the store to a sample.
//
// Graphs are copied from where they were decoded to where the sample wants them, with their columns in another order.
// Flips and transposition of an image move the K values of a graph, bytes or pairs of them, within a row; `columns`
// says which stored column each one comes from. A look-up per value is right everywhere. For bytes, with AVX-512 VBMI, 64 bytes are moved at once:
// vpermi2b picks from 128 bytes by the lowest seven bits of the column, so that a row of up to 640 bytes lies in five
// pairs of registers, and the higher bits choose among the five results.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "unlocked.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace py = pybind11;

namespace ssg {
namespace {

// Row places[i] of `out` becomes row rows[i] of `graphs`, column k of it column columns[k].
template <class T>
struct Turn {
    const T* graphs;
    const std::int32_t* rows;
    const std::int32_t* places;
    std::size_t count;
    const std::uint16_t* columns;  // null: as they are
    std::size_t num_columns;
    T* out;
};

// Neighbours that stay neighbours are copied at once: a crop takes a run of graphs from each row of the patch.
template <class T>
void copy(const Turn<T>& problem) {
    const std::int32_t *rows = problem.rows, *places = problem.places;
    for (std::size_t begin = 0, end; begin < problem.count; begin = end) {
        for (end = begin + 1; end < problem.count; ++end) {
            if (rows[end] != rows[end - 1] + 1 || places[end] != places[end - 1] + 1) break;
        }
        std::memcpy(problem.out + places[begin] * problem.num_columns, problem.graphs + rows[begin] * problem.num_columns,
                    (end - begin) * problem.num_columns * sizeof(T));
    }
}

template <class T>
void turn_portable(const Turn<T>& problem) {
    for (std::size_t index = 0; index < problem.count; ++index) {
        const T* from = problem.graphs + problem.rows[index] * problem.num_columns;
        T* to = problem.out + problem.places[index] * problem.num_columns;
        for (std::size_t i = 0; i < problem.num_columns; ++i) to[i] = from[problem.columns[i]];
    }
}

#if defined(__x86_64__)
constexpr std::size_t kBytes = 64, kMostPairs = 5, kMostBytes = 2 * kMostPairs * kBytes;

__attribute__((target("avx512f,avx512bw,avx512vbmi"))) void turn_avx512(
    const Turn<std::uint8_t>& problem) {
    const std::size_t size = problem.num_columns;
    const std::size_t num_steps = (size + kBytes - 1) / kBytes, num_pairs = (num_steps + 1) / 2;
    __m512i low[2 * kMostPairs];             // seven lower bits of the columns, for each step of 64 bytes
    __mmask64 chosen[2 * kMostPairs][kMostPairs];  // which bytes of a step come from which pair of registers
    __mmask64 inside[2 * kMostPairs];
    for (std::size_t step = 0; step < 2 * kMostPairs; ++step) {
        std::uint8_t bits[kBytes] = {};
        inside[step] = 0;
        for (std::size_t pair = 0; pair < kMostPairs; ++pair) chosen[step][pair] = 0;
        for (std::size_t i = 0; i < kBytes && kBytes * step + i < size; ++i) {
            const std::uint16_t column = problem.columns[kBytes * step + i];
            bits[i] = column & 127;
            inside[step] |= __mmask64{1} << i;
            chosen[step][column >> 7] |= __mmask64{1} << i;
        }
        low[step] = _mm512_loadu_si512(bits);
    }
    for (std::size_t index = 0; index < problem.count; ++index) {
        const std::uint8_t* from = problem.graphs + problem.rows[index] * size;
        std::uint8_t* to = problem.out + problem.places[index] * size;
        __m512i source[2 * kMostPairs];
        for (std::size_t step = 0; step < 2 * kMostPairs; ++step) {
            source[step] = _mm512_maskz_loadu_epi8(inside[step], from + kBytes * step);
        }
        for (std::size_t step = 0; step < num_steps; ++step) {
            __m512i result = _mm512_permutex2var_epi8(source[0], low[step], source[1]);
            for (std::size_t pair = 1; pair < num_pairs; ++pair) {
                const __m512i other = _mm512_permutex2var_epi8(source[2 * pair], low[step], source[2 * pair + 1]);
                result = _mm512_mask_mov_epi8(result, chosen[step][pair], other);
            }
            _mm512_mask_storeu_epi8(to + kBytes * step, inside[step], result);
        }
    }
}
#endif

template <class T>
void run(const Turn<T>& problem, [[maybe_unused]] bool portable) {
    if (problem.columns == nullptr) return copy(problem);
#if defined(__x86_64__)
    if constexpr (sizeof(T) == 1) {
        if (!portable && problem.num_columns <= kMostBytes && __builtin_cpu_supports("avx512vbmi")) {
            return turn_avx512(problem);
        }
    }
#endif
    turn_portable(problem);
}

template <class T>
using Array = py::array_t<T, py::array::c_style>;

void require(bool ok, const char* rule) {
    if (!ok) throw std::invalid_argument(rule);
}

template <class T>
bool all_below(const Array<T>& values, py::ssize_t limit) {
    const auto inside = [limit](T value) { return value >= 0 && static_cast<py::ssize_t>(value) < limit; };
    return std::all_of(values.data(), values.data() + values.size(), inside);
}

template <class T>
void turn_graphs(const Array<T>& graphs, const Array<std::int32_t>& rows, const Array<std::int32_t>& places,
                 const py::object& columns, Array<T>& out, bool portable) {
    require(graphs.ndim() == 2 && out.ndim() == 2, "graphs and out must be two-dimensional");
    require(graphs.shape(1) == out.shape(1), "graphs and out must have the same number of columns");
    require(rows.ndim() == 1 && places.ndim() == 1 && rows.size() == places.size(), "rows and places must match");
    require(all_below(rows, graphs.shape(0)), "rows must lie in graphs");
    require(all_below(places, out.shape(0)), "places must lie in out");
    Turn<T> problem = {graphs.data(), rows.data(), places.data(), static_cast<std::size_t>(rows.size()), nullptr,
                       static_cast<std::size_t>(out.shape(1)), out.mutable_data()};
    Array<std::uint16_t> order;
    if (!columns.is_none()) {
        order = columns.cast<Array<std::uint16_t>>();
        require(order.ndim() == 1 && order.size() == out.shape(1), "columns must have one entry per column");
        require(all_below(order, out.shape(1)), "columns must lie in graphs");
        problem.columns = order.data();
    }
    const ssl_data::Unlocked unlocked;
    run(problem, portable);
}

// out[c, y, x] = image[y0 + ..., x0 + ..., c] / 255: where a row of the result begins, and how far its pixels lie apart,
// depends on the turn.
void unit_range(const Array<std::uint8_t>& image, bool hflip, bool vflip, bool transpose, Array<float>& out) {
    require(image.ndim() == 3 && image.shape(2) == 3, "image must have shape (H, W, 3)");
    const std::ptrdiff_t height = image.shape(0), width = image.shape(1);
    const bool fits = out.ndim() == 3 && out.shape(0) == 3 && out.shape(1) == (transpose ? width : height) &&
                      out.shape(2) == (transpose ? height : width);
    require(fits, "out must have the shape of the turned image, channels first");
    float value[256];
    for (int i = 0; i < 256; ++i) value[i] = static_cast<float>(i) / 255.0F;
    const std::ptrdiff_t down = (vflip ? -3 : 3) * width, right = hflip ? -3 : 3;
    const std::ptrdiff_t outer = transpose ? right : down, inner = transpose ? down : right;
    const std::uint8_t* corner = image.data() + (vflip ? 3 * (height - 1) * width : 0) + (hflip ? 3 * (width - 1) : 0);
    float* to = out.mutable_data();
    const ssl_data::Unlocked unlocked;
    const std::ptrdiff_t plane = out.shape(1) * out.shape(2);
    for (std::ptrdiff_t y = 0; y < out.shape(1); ++y) {
        const std::uint8_t* from = corner + y * outer;
        float *red = to + y * out.shape(2), *green = red + plane, *blue = green + plane;
        for (std::ptrdiff_t x = 0; x < out.shape(2); ++x, from += inner) {
            red[x] = value[from[0]];
            green[x] = value[from[1]];
            blue[x] = value[from[2]];
        }
    }
}

}  // namespace

template <class T>
void add_turn_graphs(py::module_& module) {
    module.def("turn_graphs", turn_graphs<T>, py::arg("graphs").noconvert(), py::arg("rows"), py::arg("places"),
               py::arg("columns").none(true), py::arg("out").noconvert(), py::arg("portable"),
               "Copy rows of (n, K) to rows of `out`, which has the same type, their columns reordered.");
}

void add_turn(py::module_& module) {
    add_turn_graphs<std::uint8_t>(module);
    add_turn_graphs<std::uint16_t>(module);
    module.def("unit_range", unit_range, py::arg("image"), py::arg("hflip"), py::arg("vflip"), py::arg("transpose"),
               py::arg("out").noconvert(), "uint8 (H, W, 3), turned, to float32 (3, H, W) in [0, 1].");
}

}  // namespace ssg
