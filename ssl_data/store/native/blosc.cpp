// Reading Blosc 1 frames (https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst) of LZ4: some rows of one, or a
// mask.
//
// A crop needs a few graphs here and there of those in a chunk. Only the blocks in which they lie are decoded, and none
// further than to its last wanted byte.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "../../kernels/native/unlocked.h"
#include "frame.h"

namespace py = pybind11;

namespace ssl_data {
namespace {

using Bytes = py::array_t<std::uint8_t, py::array::c_style>;
using Rows = py::array_t<std::int32_t, py::array::c_style>;

// For each block, how many of its bytes are wanted, counted from its first.
std::vector<std::size_t> wanted_bytes(const Rows& rows, std::size_t row_bytes, std::size_t block_bytes, std::size_t count) {
    std::vector<std::size_t> wanted(count, 0);
    for (py::ssize_t i = 0; i < rows.size(); ++i) {
        const std::size_t begin = rows.data()[i] * row_bytes, end = begin + row_bytes;
        for (std::size_t block = begin / block_bytes; block * block_bytes < end; ++block) {
            wanted[block] = std::max(wanted[block], std::min(end - block * block_bytes, block_bytes));
        }
    }
    return wanted;
}

Outcome decode(const Frame& frame, const Rows& rows, std::size_t row_bytes, std::uint8_t* out, std::size_t size) {
    if (!frame.is_whole(size)) return Outcome::corrupt;
    std::vector<std::size_t> wanted;
    if (!frame.is_stored()) wanted = wanted_bytes(rows, row_bytes, frame.block_bytes(), frame.num_blocks());
    return decode_blocks(frame, out, size, 0, [&wanted](std::size_t block) { return wanted[block]; });
}

// Whether `work` could read the frame, without holding the interpreter meanwhile.
template <class Work>
bool done(const Work& work) {
    Outcome outcome;
    {
        const Unlocked unlocked;
        outcome = work();
    }
    if (outcome == Outcome::corrupt) throw std::runtime_error("not a frame of this size");
    return outcome == Outcome::decoded;
}

bool decode_mask(const Bytes& encoded, Bytes& out) {
    if (encoded.ndim() != 1 || out.ndim() != 1) throw std::invalid_argument("frame and out must have one dimension");
    const Frame frame = {encoded.data(), static_cast<std::size_t>(encoded.size())};
    std::uint8_t* to = out.mutable_data();
    const std::size_t size = out.size();
    return done([&] { return decode_bits(frame, to, size); });
}

bool decode_rows(const Bytes& encoded, const Rows& rows, Bytes& out) {
    const bool has_shapes = encoded.ndim() == 1 && rows.ndim() == 1 && out.ndim() == 2;
    if (!has_shapes) throw std::invalid_argument("frame and rows must have one dimension, out two");
    const auto inside = [&out](std::int32_t row) { return row >= 0 && row < out.shape(0); };
    if (!std::all_of(rows.data(), rows.data() + rows.size(), inside)) throw std::invalid_argument("rows must lie in out");
    const Frame frame = {encoded.data(), static_cast<std::size_t>(encoded.size())};
    std::uint8_t* to = out.mutable_data();
    const std::size_t row_bytes = out.shape(1), size = out.size();
    return done([&] { return decode(frame, rows, row_bytes, to, size); });
}

}  // namespace

void add_blosc(py::module_& module) {
    module.def("decode_mask", decode_mask, py::arg("frame").noconvert(), py::arg("out").noconvert(),
               "Fill `out` with zeros and ones from a frame of bits; False if it is another one.");
    module.def("decode_rows", decode_rows, py::arg("frame").noconvert(), py::arg("rows").noconvert(),
               py::arg("out").noconvert(), "Fill rows of `out` from a frame of all; False if it is not of plain LZ4.");
}

}  // namespace ssl_data
