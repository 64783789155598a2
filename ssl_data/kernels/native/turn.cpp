// Images and graphs, turned: flipped and transposed, on their way from the store to a sample.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "arrays.h"
#include "turn.h"
#include "unlocked.h"

namespace py = pybind11;

namespace ssl_data {
namespace {

template <class T>
void turn_graphs(const Array<T>& graphs, const Array<std::int32_t>& rows, const Array<std::int32_t>& places,
                 const py::object& columns, Array<T>& out, bool portable) {
    require(graphs.ndim() == 2 && out.ndim() == 2, "graphs and out must be two-dimensional");
    require(graphs.shape(1) == out.shape(1), "graphs and out must have the same number of columns");
    require(rows.ndim() == 1 && places.ndim() == 1 && rows.size() == places.size(), "rows and places must match");
    require(all_below(rows, graphs.shape(0)), "rows must lie in graphs");
    require(all_below(places, out.shape(0)), "places must lie in out");
    const Array<std::uint16_t> order = checked_columns(columns, out.shape(1));
    const Turn<T> problem = {graphs.data(), rows.data(), places.data(), static_cast<std::size_t>(rows.size()),
                             columns.is_none() ? nullptr : order.data(), static_cast<std::size_t>(out.shape(1)),
                             out.mutable_data()};
    const Unlocked unlocked;
    turn_rows(problem, portable);
}

#if defined(__x86_64__)
// A row of pixels that lie side by side, to one row of each colour. Sixteen at a time: the bytes of a colour are picked from
// those of all three, and become floats. Division is by multiplication, whose rounding error is then made good: exact for
// all 256 values, as a test shows. A batch is larger than the cache, so that rows which are aligned to its lines pass it by.
__attribute__((target("avx512f,avx512bw,avx512vbmi,fma"))) std::ptrdiff_t unit_row_avx512(
    const std::uint8_t* row, std::ptrdiff_t width, bool hflip, float* const (&planes)[3]) {
    constexpr int kPixels = 16;
    alignas(64) std::uint8_t picked[3][64] = {};
    for (int i = 0; i < kPixels; ++i) {
        for (int color = 0; color < 3; ++color) picked[color][4 * i] = 3 * (hflip ? kPixels - 1 - i : i) + color;
    }
    const __mmask64 lowest = 0x1111111111111111, loaded = 0xFFFFFFFFFFFF;
    const __m512 inverse = _mm512_set1_ps(1.0F / 255.0F), divisor = _mm512_set1_ps(255.0F);
    std::ptrdiff_t x = 0;
    for (; x + kPixels <= width; x += kPixels) {
        const __m512i pixels = _mm512_maskz_loadu_epi8(loaded, row + 3 * (hflip ? width - kPixels - x : x));
        for (int color = 0; color < 3; ++color) {
            const __m512i bytes = _mm512_maskz_permutexvar_epi8(lowest, _mm512_load_si512(picked[color]), pixels);
            const __m512 value = _mm512_cvtepi32_ps(bytes), quotient = _mm512_mul_ps(value, inverse);
            const __m512 error = _mm512_fnmadd_ps(quotient, divisor, value);
            const __m512 exact = _mm512_fmadd_ps(error, inverse, quotient);
            float* const to = planes[color] + x;
            if (reinterpret_cast<std::uintptr_t>(to) % 64 == 0) {
                _mm512_stream_ps(to, exact);
            } else {
                _mm512_storeu_ps(to, exact);
            }
        }
    }
    return x;
}
#endif

// out[c, y, x] = image[y0 + ..., x0 + ..., c] / 255: where a row of the result begins, and how far its pixels lie apart,
// depends on the turn.
void unit_range(const Array<std::uint8_t>& image, bool hflip, bool vflip, bool transpose, Array<float>& out,
                [[maybe_unused]] bool portable) {
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
    const Unlocked unlocked;
    const std::ptrdiff_t plane = out.shape(1) * out.shape(2);
#if defined(__x86_64__)
    const bool is_wide = !portable && !transpose && __builtin_cpu_supports("avx512vbmi");
#endif
    for (std::ptrdiff_t y = 0; y < out.shape(1); ++y) {
        float* const red = to + y * out.shape(2);
        float* const planes[3] = {red, red + plane, red + 2 * plane};
        std::ptrdiff_t x = 0;
#if defined(__x86_64__)
        if (is_wide) x = unit_row_avx512(image.data() + 3 * width * (vflip ? height - 1 - y : y), width, hflip, planes);
#endif
        const std::uint8_t* from = corner + y * outer + x * inner;
        for (; x < out.shape(2); ++x, from += inner) {
            for (int color = 0; color < 3; ++color) planes[color][x] = value[from[color]];
        }
    }
#if defined(__x86_64__)
    _mm_sfence();
#endif
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
               py::arg("out").noconvert(), py::arg("portable"), "uint8 (H, W, 3), turned, to float32 (3, H, W) in [0, 1].");
}

}  // namespace ssl_data
