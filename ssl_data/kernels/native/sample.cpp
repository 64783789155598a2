// Which edge pixels a sample has, where they lie once it is turned, and which stored graph belongs to each.
//
// Graphs are stored in the row-major order of the patch; a sample lists its edge pixels in the row-major order of the
// turned crop. If the crop is not turned, that is the same order. If it is, or has a stride of its own, pixels are collected in
// the order of the patch and then sorted by counting how many fall into each row of the sample; taken forwards or
// backwards, those of one row come in the right order already.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "arrays.h"
#include "past_cache.h"
#include "unlocked.h"

namespace py = pybind11;

namespace ssl_data {
namespace {

struct Window {
    int top, left, bottom, right;

    bool contains(int row, int col) const { return row >= top && row < bottom && col >= left && col < right; }

    // All zeros where it has no pixels.
    Window or_zeros() const { return top < bottom && left < right ? *this : Window{0, 0, 0, 0}; }

    Window common(const Window& other) const {
        return Window{std::max(top, other.top), std::max(left, other.left), std::min(bottom, other.bottom),
                      std::min(right, other.right)}
            .or_zeros();
    }
};

Window checked_window(const py::tuple& sides, const Window& outer) {
    require(sides.size() == 4, "a window has four sides");
    const Window window = {sides[0].cast<int>(), sides[1].cast<int>(), sides[2].cast<int>(), sides[3].cast<int>()};
    const bool inside = window.top >= outer.top && window.left >= outer.left && window.bottom <= outer.bottom &&
                        window.right <= outer.right;
    require(inside || window.bottom <= window.top || window.right <= window.left, "a window must lie in the other");
    return window.or_zeros();
}

// The mask of the patch, eight pixels to a byte, less the pixels that a stride leaves out.
class Mask {
   public:
    Mask(const std::uint8_t* bits, int side, int stride) : line_bytes_(bytes_of_line(side)) {
        // A copy, behind which words may be read.
        static thread_local std::vector<std::uint8_t> copy;
        const std::size_t num_bytes = line_bytes_ * side;
        copy.resize(std::max(copy.size(), num_bytes + kSlack));
        std::memcpy(copy.data(), bits, num_bytes);
        if (stride > 1) thin_out(copy.data(), side, std::min(stride, side));
        bits_ = copy.data();
    }

    static std::size_t bytes_of_line(int side) { return (static_cast<std::size_t>(side) + 7) / 8; }

    // How many lie in columns first .. last-1 of a row.
    int count(int row, int first, int last) const {
        int sum = 0;
        for (int col = first; col < last; col += 64) sum += bits_in(word(row, col, last));
        return sum;
    }

    // How many lie in rows first .. last-1. Behind the last column there are no bits.
    int count_rows(int first, int last) const {
        int sum = 0;
        const std::uint8_t *begin = bits_ + first * line_bytes_, *const end = bits_ + last * line_bytes_;
        for (; end - begin >= 8; begin += 8) sum += bits_in(load(begin));
        for (; begin != end; ++begin) sum += bits_in(*begin);
        return sum;
    }

    // Writes those columns to `out`, counted from `origin`; returns how many there are.
    int collect(int row, int first, int last, int origin, std::int32_t* out) const {
        int size = 0;
        // A loop over the edge pixels of some others ends where it was not expected to: one for each of 64, not of eight.
        for (int col = first; col < last; col += 64) {
            const int begin = col - origin;
            for (std::uint64_t bits = word(row, col, last); bits != 0; bits &= bits - 1) {
                out[size++] = begin + __builtin_ctzll(bits);
            }
        }
        return size;
    }

   private:
    static constexpr std::size_t kSlack = 16;

    const std::uint8_t* bits_;
    std::size_t line_bytes_;

    // Leaves pixels with row % stride == col % stride. A stride beyond the side would leave the diagonal, as one of the side
    // does.
    void thin_out(std::uint8_t* lines, int side, int stride) const {
        static thread_local std::vector<std::uint8_t> patterns;  // a line for each remainder
        patterns.assign(stride * line_bytes_, 0);
        for (int col = 0; col < side; ++col) {
            patterns[col % stride * line_bytes_ + col / 8] |= static_cast<std::uint8_t>(1 << col % 8);
        }
        for (int row = 0; row < side; ++row, lines += line_bytes_) {
            const std::uint8_t* const pattern = patterns.data() + row % stride * line_bytes_;
            for (std::size_t i = 0; i < line_bytes_; ++i) lines[i] &= pattern[i];
        }
    }

    static std::uint64_t load(const std::uint8_t* bytes) {
        std::uint64_t word = 0;
        for (int i = 0; i < 8; ++i) word |= std::uint64_t{bytes[i]} << 8 * i;
        return word;
    }

    // Processors of the portable build have no instruction for it.
    static int bits_in(std::uint64_t word) {
        word -= word >> 1 & 0x5555555555555555;
        word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
        word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f;
        return static_cast<int>(word * 0x0101010101010101 >> 56);
    }

    // The pixels of a row from a column on, 64 or up to the last.
    std::uint64_t word(int row, int col, int last) const {
        const std::uint8_t* const from = bits_ + row * line_bytes_ + col / 8;
        const int shift = col % 8, count = last - col;
        std::uint64_t bits = load(from) >> shift;
        if (shift != 0) bits |= std::uint64_t{from[8]} << (64 - shift);
        return count < 64 ? bits & ((std::uint64_t{1} << count) - 1) : bits;
    }
};

Array<std::int32_t> empty(std::size_t size) { return Array<std::int32_t>(static_cast<py::ssize_t>(size)); }

// What is asked for; windows without pixels are all zeros.
struct Problem {
    const Mask& mask;
    int side;
    Window crop, taken, stored;  // `stored` within `taken`
    bool hflip, vflip, transpose;
    int edge_stride;

    bool is_turned() const { return hflip || vflip || transpose; }
};

// The pixels of a sample, of which some have a stored graph. Memory for them is taken while Python may be used.
struct Pixels {
    Array<std::int32_t> row, col, rows, places, computed;

    Pixels(std::size_t count, std::size_t num_stored)
        : row(empty(count)), col(empty(count)), rows(empty(num_stored)), places(empty(num_stored)),
          computed(empty(count - num_stored)) {}
};

struct Found {
    std::int32_t row, col;  // in the sample
    std::int32_t graph;
    bool is_stored;
};

std::int32_t* write_numbers(std::int32_t* to, int first, int last) {
    for (; first < last; ++first) *to++ = first;
    return to;
}

// Where the crop is not turned and has no stride of its own, its pixels go where they belong line by line: they are counted
// first. The pixels, and how many graphs the patch has.
std::pair<Pixels, int> in_order(const Problem& problem) {
    const Mask& mask = problem.mask;
    const Window &crop = problem.crop, &taken = problem.taken, &stored = problem.stored;
    std::size_t count = 0, num_stored = 0;
    {
        const Unlocked unlocked;
        for (int r = taken.top; r < taken.bottom; ++r) count += mask.count(r, taken.left, taken.right);
        for (int r = stored.top; r < stored.bottom; ++r) num_stored += mask.count(r, stored.left, stored.right);
    }
    Pixels pixels(count, num_stored);
    std::int32_t *row = pixels.row.mutable_data(), *col = pixels.col.mutable_data(), *rows = pixels.rows.mutable_data();
    std::int32_t *places = pixels.places.mutable_data(), *computed = pixels.computed.mutable_data();
    int total = 0;
    {
        const Unlocked unlocked;
        total = mask.count_rows(0, taken.top);
        for (int r = taken.top, place = 0; r < taken.bottom; ++r) {
            const int graph = total + mask.count(r, 0, taken.left);
            const int size = mask.collect(r, taken.left, taken.right, crop.left, col);
            col += size;
            row = std::fill_n(row, size, r - crop.top);
            int first = size, last = size;  // those of the line that have a stored graph
            if (r >= stored.top && r < stored.bottom) {
                first = mask.count(r, taken.left, stored.left);
                last = size - mask.count(r, stored.right, taken.right);
            }
            rows = write_numbers(rows, graph + first, graph + last);
            places = write_numbers(places, place + first, place + last);
            computed = write_numbers(write_numbers(computed, place, place + first), place + last, place + size);
            place += size;
            total = graph + size + mask.count(r, taken.right, problem.side);
        }
        total += mask.count_rows(taken.bottom, problem.side);
    }
    return {std::move(pixels), total};
}

std::pair<Pixels, int> in_any_order(const Problem& problem) {
    const Mask& mask = problem.mask;
    const Window &crop = problem.crop, &taken = problem.taken;
    const int size = crop.bottom - crop.top;
    // Kept from one call to the next: memory that is new has to be mapped page by page.
    static thread_local std::vector<Found> kept;
    kept.resize(std::max(kept.size(), static_cast<std::size_t>(size) * size));
    Found* const found = kept.data();
    std::vector<std::int32_t> cols(static_cast<std::size_t>(size)), next(static_cast<std::size_t>(size) + 1);
    std::size_t count = 0, num_stored = 0;
    int total;
    {
        const Unlocked unlocked;
        total = mask.count_rows(0, taken.top);
        for (int r = taken.top; r < taken.bottom; ++r) {
            int graph = total + mask.count(r, 0, taken.left);
            const int in_line = mask.collect(r, taken.left, taken.right, 0, cols.data());
            const int down = problem.vflip ? crop.bottom - 1 - r : r - crop.top;
            for (int i = 0; i < in_line; ++i, ++graph) {
                const int right = problem.hflip ? crop.right - 1 - cols[i] : cols[i] - crop.left;
                const int y = problem.transpose ? right : down, x = problem.transpose ? down : right;
                if (problem.edge_stride > 1 && y % problem.edge_stride != x % problem.edge_stride) continue;
                const bool is_stored = problem.stored.contains(r, cols[i]);
                found[count++] = {y, x, graph, is_stored};
                num_stored += is_stored;
                ++next[y + 1];
            }
            total = graph + mask.count(r, taken.right, problem.side);
        }
        total += mask.count_rows(taken.bottom, problem.side);
        for (int y = 0; y < size; ++y) next[y + 1] += next[y];
    }
    Pixels pixels(count, num_stored);
    std::int32_t *row = pixels.row.mutable_data(), *col = pixels.col.mutable_data(), *rows = pixels.rows.mutable_data();
    std::int32_t *places = pixels.places.mutable_data(), *computed = pixels.computed.mutable_data();
    {
        const Unlocked unlocked;
        // Backwards, the places are found from the last pixel on, but stored graphs are listed as they lie in the patch.
        const bool is_backwards = problem.transpose ? problem.vflip : problem.hflip;
        std::size_t stored_at = is_backwards ? num_stored : 0, computed_at = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const Found& one = found[is_backwards ? count - 1 - i : i];
            const std::int32_t place = next[one.row]++;
            row[place] = one.row;
            col[place] = one.col;
            if (one.is_stored) {
                const std::size_t at = is_backwards ? --stored_at : stored_at++;
                rows[at] = one.graph;
                places[at] = place;
            } else {
                computed[computed_at++] = place;
            }
        }
        std::sort(computed, computed + computed_at);
    }
    return {std::move(pixels), total};
}

py::tuple sample_pixels(const Array<std::uint8_t>& edge_bits, int stored_stride, const py::tuple& crop_sides,
                        const py::tuple& taken_sides, const py::tuple& stored_sides, bool hflip, bool vflip,
                        bool transpose, int edge_stride) {
    require(edge_bits.ndim() == 2 && edge_bits.size() > 0, "edge_bits must be two-dimensional and not empty");
    require(edge_bits.shape(0) < std::numeric_limits<int>::max(), "edge_bits must not have as many rows");
    require(stored_stride > 0 && edge_stride > 0, "strides must be positive");
    const int side = static_cast<int>(edge_bits.shape(0));
    require(edge_bits.shape(1) == static_cast<py::ssize_t>(Mask::bytes_of_line(side)), "edge_bits must be of a square mask");
    const Mask mask(edge_bits.data(), side, stored_stride);
    const Window crop = checked_window(crop_sides, {0, 0, side, side});
    require(crop.bottom > crop.top && crop.right - crop.left == crop.bottom - crop.top, "the crop must be square");
    const Window taken = checked_window(taken_sides, crop), stored = checked_window(stored_sides, crop);
    const Problem problem = {mask, side, crop, taken, taken.common(stored), hflip, vflip, transpose, edge_stride};
    const auto [pixels, total] = problem.is_turned() || edge_stride > 1 ? in_any_order(problem) : in_order(problem);
    return py::make_tuple(pixels.row, pixels.col, pixels.rows, pixels.places, pixels.computed, total);
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
    // Two rows in turn: what has just been written one by one cannot be read again in vectors for a while.
    const std::size_t row_bytes = width * sizeof(float);
    std::vector<float> rows(2 * static_cast<std::size_t>(width));
    float *made = rows.data(), *before = made + width;
    const Unlocked unlocked;
    PastCache copies;
    std::size_t i = 0;
    for (std::int32_t at = 0; at < height; ++at, to += row_bytes) {
        std::fill_n(made, width, 0.0F);
        for (; i < count && y[i] == at; ++i) made[x[i]] = 1.0F;
        copies.finish();
        copies.add(to, reinterpret_cast<const std::uint8_t*>(made), row_bytes);
        std::swap(made, before);
    }
    copies.finish();
    PastCache::publish();
}

}  // namespace

void add_sample(py::module_& module) {
    module.def("sample_pixels", sample_pixels, "Edge pixels of a sample; see ssl_data.kernels.sample.");
    module.def("mark_pixels", mark_pixels, py::arg("row").noconvert(), py::arg("col").noconvert(),
               py::arg("out").noconvert(), "Fill float32 (H, W) with 1 at pixels and 0 elsewhere.");
}

}  // namespace ssl_data
