// Which edge pixels a sample has, where they lie once it is turned, and which stored graph belongs to each.
//
// Graphs are stored in the row-major order of the patch; a sample lists its edge pixels in the row-major order of the
// turned crop. Pixels are collected in the order of the patch, without branches, since which pixels are edges cannot be
// predicted. They are then sorted by counting how many fall into each row of the sample; taken forwards or backwards,
// those of one row come in the right order already.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace py = pybind11;

namespace ssg {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

struct Window {
    int top, left, bottom, right;

    bool contains(int row, int col) const { return row >= top && row < bottom && col >= left && col < right; }
};

void require(bool ok, const char* rule) {
    if (!ok) throw std::invalid_argument(rule);
}

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
        int size = 0;
        for (int col = first_of(row, first); col < last; col += stride) {
            out[size] = col;
            size += line[col] != 0;  // a broken store may hold other values than 0 and 1; `out` must hold all the same
        }
        return size;
    }

   private:
    const std::uint8_t* values;
    int side;
    int stride;

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

py::array_t<std::int32_t> to_array(const std::vector<std::int32_t>& values) {
    return py::array_t<std::int32_t>(static_cast<py::ssize_t>(values.size()), values.data());
}

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

    struct Found {
        std::int32_t row, col;  // in the sample
        std::int32_t graph;
        bool is_stored;
    };
    std::vector<Found> found;
    found.reserve(static_cast<std::size_t>(height) * width / 4);
    std::vector<std::int32_t> row, col, rows, places, computed;
    int total = 0;
    {
        const py::gil_scoped_release release;
        std::vector<std::int32_t> cols(static_cast<std::size_t>(width)), next(static_cast<std::size_t>(height) + 1);
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
                found.push_back({y, x, graph, stored.contains(r, cols[i])});
                ++next[y + 1];
            }
            total = graph + mask.count(r, taken.right, side);
        }
        total += mask.count_rows(bottom, side);
        for (int y = 0; y < height; ++y) next[y + 1] += next[y];
        const std::size_t count = found.size();
        std::vector<std::int32_t> place(count);
        row.resize(count);
        col.resize(count);
        const bool backwards = transpose ? vflip : hflip;
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t at = backwards ? count - 1 - i : i;
            place[at] = next[found[at].row]++;
            row[place[at]] = found[at].row;
            col[place[at]] = found[at].col;
        }
        for (std::size_t i = 0; i < count; ++i) {
            if (found[i].is_stored) {
                rows.push_back(found[i].graph);
                places.push_back(place[i]);
            } else {
                computed.push_back(place[i]);
            }
        }
        std::sort(computed.begin(), computed.end());
    }
    return py::make_tuple(to_array(row), to_array(col), to_array(rows), to_array(places), to_array(computed), total);
}

}  // namespace

void add_sample(py::module_& module) {
    module.def("sample_pixels", sample_pixels, "Edge pixels of a sample; see ssl_data.kernels.sample.");
}

}  // namespace ssg
