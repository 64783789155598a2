// Which edge pixels a sample has, where they lie once it is turned, and which stored graph belongs to each.
//
// Graphs are stored in the row-major order of the patch; a sample lists its edge pixels in the row-major order of the
// turned crop. Pixels are collected in the order of the patch, without branches, since which pixels are edges cannot be
// predicted. If the crop is turned, they are then sorted by counting how many fall into each row of the sample; taken
// forwards or backwards, those of one row come in the right order already.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "arrays.h"
#include "past_cache.h"
#include "unlocked.h"

namespace py = pybind11;

namespace ssl_data {
namespace {

struct Window {
    int top, left, bottom, right;

    bool contains(int row, int col) const { return row >= top && row < bottom && col >= left && col < right; }
};

Window checked_window(const py::tuple& sides, const Window& outer) {
    require(sides.size() == 4, "a window has four sides");
    const Window window = {sides[0].cast<int>(), sides[1].cast<int>(), sides[2].cast<int>(), sides[3].cast<int>()};
    const bool inside = window.top >= outer.top && window.left >= outer.left && window.bottom <= outer.bottom &&
                        window.right <= outer.right;
    require(inside || window.bottom <= window.top || window.right <= window.left, "a window must lie in the other");
    return window;
}

// The mask of the patch; only pixels with row % stride == col % stride count.
class Mask {
   public:
    // A stride beyond the side leaves the diagonal, as one of the side does; so that sums of columns cannot overflow.
    Mask(const std::uint8_t* values, int side, int stride) : values(values), side(side), stride(std::min(stride, side)) {}

    // How many lie in columns first .. last-1 of a row. Values are 0 and 1.
    int count(int row, int first, int last) const {
        const std::uint8_t* line = values + std::ptrdiff_t{row} * side;
        if (stride == 1) return add_up(line + first, line + last);
        int sum = 0;
        for (int col = first_of(row, first); col < last; col += stride) sum += line[col];
        return sum;
    }

    // How many lie in rows first .. last-1.
    int count_rows(int first, int last) const {
        if (stride == 1) return add_up(values + std::ptrdiff_t{first} * side, values + std::ptrdiff_t{last} * side);
        int sum = 0;
        for (int row = first; row < last; ++row) sum += count(row, 0, side);
        return sum;
    }

    // Writes those columns to `out`, which has room for last - first; returns how many there are.
    int collect(int row, int first, int last, std::int32_t* out) const {
        const std::uint8_t* line = values + std::ptrdiff_t{row} * side;
        int size = 0, col = first_of(row, first);
        // A loop over the edge pixels of some others ends where it was not expected to: one for each of 64, not of eight.
        for (; stride == 1 && col + 64 <= last; col += 64) {
            for (std::uint64_t bits = bits_of(line + col); bits != 0; bits &= bits - 1) {
                out[size++] = col + __builtin_ctzll(bits);
            }
        }
        for (; col < last; col += stride) {
            out[size] = col;
            size += line[col] != 0;
        }
        return size;
    }

   private:
    const std::uint8_t* values;
    int side;
    int stride;

    // A bit for each of 64 pixels, set if it is not 0: a broken store may hold other values than 0 and 1.
    static std::uint64_t bits_of(const std::uint8_t* pixels) {
        std::uint64_t bits = 0;
#if defined(__x86_64__)
        for (int i = 0; i < 64; i += 16) {
            const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels + i));
            const int zeros = _mm_movemask_epi8(_mm_cmpeq_epi8(values, _mm_setzero_si128()));
            bits |= std::uint64_t{static_cast<std::uint16_t>(~zeros)} << i;
        }
#else
        for (int i = 0; i < 64; ++i) bits |= std::uint64_t{pixels[i] != 0} << i;
#endif
        return bits;
    }

    // The first column that counts, from `first` on.
    int first_of(int row, int first) const { return first + ((row - first) % stride + stride) % stride; }

    // Bytes are added up in words: 255 words at most, so that none of the eight sums in a word overflows.
    static int add_up(const std::uint8_t* begin, const std::uint8_t* end) {
        int sum = 0;
        while (end - begin >= 8) {
            const std::ptrdiff_t words = std::min<std::ptrdiff_t>((end - begin) / 8, 255);
            std::uint64_t sums = 0;
            for (std::ptrdiff_t i = 0; i < words; ++i, begin += 8) {
                std::uint64_t word;
                std::memcpy(&word, begin, 8);
                sums += word;
            }
            for (; sums != 0; sums >>= 8) sum += static_cast<int>(sums & 255);
        }
        for (; begin != end; ++begin) sum += *begin;
        return sum;
    }
};

struct Found {
    std::int32_t row, col;  // in the sample
    std::int32_t graph;
    bool is_stored;
};

Array<std::int32_t> empty(std::size_t size) { return Array<std::int32_t>(static_cast<py::ssize_t>(size)); }

py::tuple sample_pixels(const Array<bool>& edge_mask, int stored_stride, const py::tuple& crop_sides,
                        const py::tuple& taken_sides, const py::tuple& stored_sides, bool hflip, bool vflip,
                        bool transpose, int edge_stride) {
    require(edge_mask.ndim() == 2 && edge_mask.shape(0) == edge_mask.shape(1), "edge_mask must be square");
    require(edge_mask.size() > 0, "edge_mask must not be empty");
    require(stored_stride > 0 && edge_stride > 0, "strides must be positive");
    const int side = static_cast<int>(edge_mask.shape(0));
    const Mask mask(reinterpret_cast<const std::uint8_t*>(edge_mask.data()), side, stored_stride);
    const Window crop = checked_window(crop_sides, {0, 0, side, side});
    const Window taken = checked_window(taken_sides, crop), stored = checked_window(stored_sides, crop);
    const int height = crop.bottom - crop.top, width = crop.right - crop.left;
    require(height > 0 && width == height, "the crop must be square");

    // Kept from one call to the next: memory that is new has to be mapped page by page.
    static thread_local std::vector<Found> kept;
    kept.resize(std::max(kept.size(), static_cast<std::size_t>(height) * width));
    Found* const found = kept.data();
    std::vector<std::int32_t> cols(static_cast<std::size_t>(width)), next(static_cast<std::size_t>(height) + 1);
    std::size_t count = 0, num_stored = 0;
    int total = 0;
    const bool is_turned = hflip || vflip || transpose;
    {
        const Unlocked unlocked;
        const bool is_empty = taken.top >= taken.bottom || taken.left >= taken.right;
        const int top = is_empty ? 0 : taken.top, bottom = is_empty ? 0 : taken.bottom;
        total = mask.count_rows(0, top);
        for (int r = top; r < bottom; ++r) {
            int graph = total + mask.count(r, 0, taken.left);
            const int size = mask.collect(r, taken.left, taken.right, cols.data());
            const int down = vflip ? crop.bottom - 1 - r : r - crop.top;
            for (int i = 0; i < size; ++i, ++graph) {
                const int right = hflip ? crop.right - 1 - cols[i] : cols[i] - crop.left;
                const int y = transpose ? right : down, x = transpose ? down : right;
                if (edge_stride > 1 && y % edge_stride != x % edge_stride) continue;
                const bool is_stored = stored.contains(r, cols[i]);
                found[count++] = {y, x, graph, is_stored};
                num_stored += is_stored;
                if (is_turned) ++next[y + 1];
            }
            total = graph + mask.count(r, taken.right, side);
        }
        total += mask.count_rows(bottom, side);
        for (int y = 0; y < height; ++y) next[y + 1] += next[y];
    }
    Array<std::int32_t> row = empty(count), col = empty(count), rows = empty(num_stored), places = empty(num_stored);
    Array<std::int32_t> computed = empty(count - num_stored);
    std::int32_t *row_of = row.mutable_data(), *col_of = col.mutable_data(), *graph_of = rows.mutable_data();
    std::int32_t *place_of = places.mutable_data(), *computed_of = computed.mutable_data();
    {
        const Unlocked unlocked;
        // Backwards, the places are found from the last pixel on, but stored graphs are listed as they lie in the patch.
        const bool is_backwards = transpose ? vflip : hflip;
        std::size_t stored_at = is_backwards ? num_stored : 0, computed_at = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const Found& one = found[is_backwards ? count - 1 - i : i];
            const std::int32_t place = is_turned ? next[one.row]++ : static_cast<std::int32_t>(i);
            row_of[place] = one.row;
            col_of[place] = one.col;
            if (one.is_stored) {
                const std::size_t at = is_backwards ? --stored_at : stored_at++;
                graph_of[at] = one.graph;
                place_of[at] = place;
            } else {
                computed_of[computed_at++] = place;
            }
        }
        std::sort(computed_of, computed_of + computed_at);
    }
    return py::make_tuple(row, col, rows, places, computed, total);
}

// Ones at the pixels, zeros elsewhere; the pixels are in row-major order. Rows are made in the cache, one after the other,
// since a batch of them is larger.
void mark_pixels(const Array<std::int32_t>& row, const Array<std::int32_t>& col, Array<float>& out) {
    require(row.ndim() == 1 && col.ndim() == 1 && row.size() == col.size(), "row and col must match");
    require(out.ndim() == 2, "out must be two-dimensional");
    const std::int32_t height = static_cast<std::int32_t>(out.shape(0)), width = static_cast<std::int32_t>(out.shape(1));
    const std::int32_t *y = row.data(), *x = col.data();
    const std::size_t count = row.size();
    bool is_inside = true, ascends = true;
    for (std::size_t i = 0; i < count; ++i) is_inside &= (y[i] >= 0) & (y[i] < height) & (x[i] >= 0) & (x[i] < width);
    for (std::size_t i = 1; i < count; ++i) ascends &= y[i - 1] <= y[i];
    require(is_inside, "pixels must lie in out");
    require(ascends, "rows must ascend");
    std::uint8_t* to = reinterpret_cast<std::uint8_t*>(out.mutable_data());
    std::vector<float> line(static_cast<std::size_t>(width));
    const std::size_t num_bytes = line.size() * sizeof(float);
    const Unlocked unlocked;
    PastCache copies;
    std::size_t i = 0;
    for (std::int32_t at = 0; at < height; ++at, to += num_bytes) {
        std::fill(line.begin(), line.end(), 0.0F);
        for (; i < count && y[i] == at; ++i) line[x[i]] = 1.0F;
        copies.add(to, reinterpret_cast<const std::uint8_t*>(line.data()), num_bytes);
        copies.finish();
    }
    PastCache::publish();
}

}  // namespace

void add_sample(py::module_& module) {
    module.def("sample_pixels", sample_pixels, "Edge pixels of a sample; see ssl_data.kernels.sample.");
    module.def("mark_pixels", mark_pixels, py::arg("row").noconvert(), py::arg("col").noconvert(),
               py::arg("out").noconvert(), "Fill float32 (H, W) with 1 at pixels and 0 elsewhere.");
}

}  // namespace ssl_data
