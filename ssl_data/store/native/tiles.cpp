// A rectangle of an image in a shard file, whose chunks are square tiles of images: all that one call can do of it.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "../../kernels/native/arrays.h"
#include "chunk_file.h"
#include "crc32c.h"
#include "frame.h"

namespace py = pybind11;

namespace ssl_data {
namespace {

// Sizes that are made of sides must not overflow.
constexpr std::size_t kMostSide = 1 << 16;

struct Pread {
    int file;

    ssize_t operator()(std::uint64_t offset, std::uint8_t* to, std::size_t size) const {
        return pread(file, to, size, static_cast<off_t>(offset));
    }
};

struct Request {
    int file;
    const Place* chunks;  // from number `first` of the image's tiles on
    std::size_t first, per_row, side, pixel_bytes;
    std::size_t top, left, bottom, right;
    std::uint8_t* out;

    std::size_t chunk_bytes() const { return side * side * pixel_bytes; }
    const Place& place(std::size_t tile_row, std::size_t tile_col) const {
        return chunks[tile_row * per_row + tile_col - first];
    }
};

Trouble trouble_of(Outcome outcome) {
    if (outcome == Outcome::other) return Trouble::other;
    return outcome == Outcome::corrupt ? Trouble::bad_block : Trouble::none;
}

// Checks and decodes a tile and copies its part of the rectangle.
Trouble paste(const Request& request, std::size_t tile_row, std::size_t tile_col, const std::uint8_t* encoded,
              std::size_t size) {
    const Trouble trouble = check_chunk(encoded, size);
    if (trouble != Trouble::none) return trouble;
    const Frame frame = {encoded, size - kCrcBytes};
    const std::size_t y0 = tile_row * request.side, x0 = tile_col * request.side, line = request.side * request.pixel_bytes;
    const std::size_t top = std::max(request.top, y0), bottom = std::min(request.bottom, y0 + request.side);
    const std::size_t left = std::max(request.left, x0), right = std::min(request.right, x0 + request.side);
    static thread_local Scratch scratch;
    std::uint8_t* const tile = scratch.of(request.chunk_bytes() + Lz4::kSlack);
    const std::size_t first = (top - y0) * line, last = (bottom - y0) * line, size_of_tile = request.chunk_bytes();
    const auto wanted = [&frame, first, last](std::size_t block) {
        const std::size_t begin = block * frame.block_bytes(), end = std::min(last, begin + frame.block_bytes());
        return end > begin && begin + frame.block_bytes() > first ? end - begin : 0;
    };
    const Outcome outcome = frame.is_lz4(Frame::kBitShuffled)
                                ? decode_bits(frame, tile, size_of_tile)
                                : decode_blocks(frame, tile, size_of_tile, Lz4::kSlack, wanted);
    if (outcome != Outcome::decoded) return trouble_of(outcome);

    const std::size_t row_bytes = (request.right - request.left) * request.pixel_bytes;
    const std::size_t num_bytes = (right - left) * request.pixel_bytes;
    const std::uint8_t* from = tile + first + (left - x0) * request.pixel_bytes;
    std::uint8_t* to = request.out + (top - request.top) * row_bytes + (left - request.left) * request.pixel_bytes;
    for (std::size_t y = top; y < bottom; ++y, from += line, to += row_bytes) std::memcpy(to, from, num_bytes);
    return Trouble::none;
}

// The first tile that cannot be read, counted from the first of the chunks, and why.
std::pair<std::size_t, Trouble> read_window(const Request& request) {
    static thread_local Scratch scratch;
    const Pread read_some = {request.file};
    const std::size_t most = request.chunk_bytes() + Frame::kHeaderBytes + kCrcBytes;  // larger it is stored as it is
    const std::size_t right = (request.right - 1) / request.side + 1;
    for (std::size_t row = request.top / request.side; row * request.side < request.bottom; ++row) {
        for (std::size_t col = request.left / request.side, next; col < right; col = next) {
            const Place& begin = request.place(row, col);
            std::size_t size = 0;
            for (next = col; next < right; ++next) {
                const Place& place = request.place(row, next);
                if (place.size > most) return {row * request.per_row + next - request.first, Trouble::other};
                const bool follows = place.offset == begin.offset + size && size + place.size <= kMostReadBytes;
                if (next != col && !follows) break;
                size += place.size;
            }
            std::uint8_t* encoded = scratch.of(size);
            const bool is_read = read_all(begin.offset, encoded, size, read_some) == Trouble::none;
            for (; col < next; ++col) {
                const Place& place = request.place(row, col);
                // What could not be read together is read one by one, to find out which of them it is.
                Trouble trouble = is_read ? Trouble::none : read_all(place.offset, encoded, place.size, read_some);
                if (trouble == Trouble::none) trouble = paste(request, row, col, encoded, place.size);
                if (trouble != Trouble::none) return {row * request.per_row + col - request.first, trouble};
                encoded += place.size;
            }
        }
    }
    return {0, Trouble::none};
}

// A mask that is one chunk, as the packed bits in which it is stored.
Report read_bits(int file, const Array<std::uint64_t>& chunks, Array<std::uint8_t>& out) {
    require(chunks.ndim() == 2 && chunks.shape(0) == 1 && chunks.shape(1) == 2, "chunks must have shape (1, 2)");
    const Place place = *reinterpret_cast<const Place*>(chunks.data());
    const std::size_t size = static_cast<std::size_t>(out.size()) * 8;
    std::uint8_t* const to = out.mutable_data();
    return run_unlocked([=]() -> std::pair<std::size_t, Trouble> {
        static thread_local Scratch scratch;
        if (place.size > size + Frame::kHeaderBytes + kCrcBytes) return {0, Trouble::other};
        std::uint8_t* const encoded = scratch.of(place.size);
        Trouble trouble = read_all(place.offset, encoded, place.size, Pread{file});
        if (trouble == Trouble::none) trouble = check_chunk(encoded, place.size);
        if (trouble != Trouble::none) return {0, trouble};
        const auto copy = [to](const std::uint8_t* bits, std::size_t begin, std::size_t end) {
            std::memcpy(to + begin / 8, bits, (end - begin) / 8);
        };
        return {0, trouble_of(decode_packed({encoded, place.size - kCrcBytes}, size, copy))};
    });
}

Report read_tiles(int file, const Array<std::uint64_t>& chunks, std::size_t first, std::size_t per_row, std::size_t side,
                  std::size_t top, std::size_t left, Array<std::uint8_t>& out) {
    require(chunks.ndim() == 2 && chunks.shape(1) == 2, "chunks must have shape (n, 2)");
    require(out.ndim() == 3 && out.size() > 0, "out must be an image, and not empty");
    const std::size_t height = out.shape(0), width = out.shape(1), bottom = top + height, right = left + width;
    require(side < kMostSide && out.shape(2) < static_cast<py::ssize_t>(kMostSide), "tiles must not be that large");
    require(side > 0 && per_row > 0 && right <= per_row * side && right > left && bottom > top, "out must lie in the image");
    const std::size_t from = top / side * per_row + left / side;
    const std::size_t to = (bottom - 1) / side * per_row + (right - 1) / side + 1;
    require(from >= first && to - first <= static_cast<std::size_t>(chunks.shape(0)), "its tiles must be among the chunks");
    const Request request = {file, reinterpret_cast<const Place*>(chunks.data()), first, per_row, side,
                             static_cast<std::size_t>(out.shape(2)), top, left, bottom, right, out.mutable_data()};
    return run_unlocked([&request] { return read_window(request); });
}

}  // namespace

void add_tiles(py::module_& module) {
    module.def("read_bits", read_bits, py::arg("file"), py::arg("chunks").noconvert(), py::arg("out").noconvert(),
               "Fill `out` with the bits of a mask that is one chunk, where `has_crc32c`; 0, its fault, errno.");
    module.def("read_tiles", read_tiles, py::arg("file"), py::arg("chunks").noconvert(), py::arg("first"),
               py::arg("per_row"), py::arg("side"), py::arg("top"), py::arg("left"), py::arg("out").noconvert(),
               "Fill `out` (H, W, C) from the tiles on which it lies, where `has_crc32c`; the first faulty one, its fault, errno.");
}

}  // namespace ssl_data
