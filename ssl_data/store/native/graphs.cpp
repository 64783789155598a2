// Writing a chunk of graphs as a Blosc 1 frame (see frame.h) of LZ4 blocks, which any reader of Blosc can read.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <utility>
#include <vector>

#include "../../kernels/native/arrays.h"
#include "../../kernels/native/unlocked.h"
#include "frame.h"
#include "graph_encoder.h"

namespace py = pybind11;

namespace ssl_data {
namespace {

constexpr std::uint8_t kVersion = 2, kLz4Version = 1, kFlags = Frame::kLz4 << 5 | Frame::kNotSplit;

class FrameWriter {
   public:
    FrameWriter(const std::uint8_t* chunk, std::size_t size, std::size_t block_bytes, std::uint8_t item_bytes)
        : chunk_(chunk),
          size_(size),
          item_bytes_(item_bytes),
          block_bytes_(block_bytes),
          num_blocks_((size + block_bytes_ - 1) / block_bytes_),
          // A block that does not become smaller takes its own size, but is encoded first.
          frame_(Frame::first_block(num_blocks_) + size + num_blocks_ * Frame::kWordBytes + GraphEncoder::bound(block_bytes_)) {}

    // Empty where the frame does not become smaller than the chunk.
    std::vector<std::uint8_t> write(GraphEncoder& encoder) {
        std::size_t end = Frame::first_block(num_blocks_);
        for (std::size_t block = 0; block < num_blocks_; ++block) {
            put(Frame::kHeaderBytes + block * Frame::kWordBytes, end);
            end = write_block(encoder, block, end);
        }
        if (end >= Frame::kHeaderBytes + size_) return {};
        const std::uint8_t beginning[] = {kVersion, kLz4Version, kFlags, item_bytes_};
        std::copy(std::begin(beginning), std::end(beginning), frame_.begin());
        put(4, size_);
        put(8, block_bytes_);
        put(12, end);
        frame_.resize(end);
        return std::move(frame_);
    }

   private:
    void put(std::size_t at, std::size_t value) {
        const auto word = static_cast<std::uint32_t>(value);
        std::memcpy(frame_.data() + at, &word, sizeof word);
    }

    // Where it ends, when it begins at `at`.
    std::size_t write_block(GraphEncoder& encoder, std::size_t block, std::size_t at) {
        const std::uint8_t* const from = chunk_ + block * block_bytes_;
        const std::size_t size = std::min(block_bytes_, size_ - block * block_bytes_);
        std::uint8_t* const to = frame_.data() + at + Frame::kWordBytes;
        std::size_t encoded = encoder.encode(from, size, to);
        if (encoded >= size) {
            std::memcpy(to, from, size);
            encoded = size;
        }
        put(at, encoded);
        return at + Frame::kWordBytes + encoded;
    }

    const std::uint8_t* chunk_;
    std::size_t size_;
    std::uint8_t item_bytes_;
    std::size_t block_bytes_, num_blocks_;
    std::vector<std::uint8_t> frame_;
};

py::object encode_graphs(const Array<std::uint8_t>& graphs, std::size_t block_bytes, std::uint8_t item_bytes,
                         bool portable) {
    require(graphs.ndim() == 2 && graphs.size() > 0, "graphs must have shape (n, K) and not be empty");
    require(graphs.size() < std::numeric_limits<std::int32_t>::max() - (1 << 20), "a frame holds less than 2 GB");
    require(block_bytes > 0, "block_bytes must be positive");
    require(item_bytes > 16, "with smaller items, readers expect a block for each byte of them");
    const std::uint8_t* const chunk = graphs.data();
    const std::size_t size = graphs.size(), row_bytes = graphs.shape(1);
    std::vector<std::uint8_t> frame;
    {
        const Unlocked unlocked;
        const std::size_t in_block = std::min(block_bytes, size);
        GraphEncoder encoder(row_bytes, in_block, portable);
        frame = FrameWriter(chunk, size, in_block, item_bytes).write(encoder);
    }
    if (frame.empty()) return py::none();
    return py::bytes(reinterpret_cast<const char*>(frame.data()), frame.size());
}

}  // namespace

void add_graphs(py::module_& module) {
    module.def("encode_graphs", encode_graphs, py::arg("graphs").noconvert(), py::arg("block_bytes"),
               py::arg("item_bytes"), py::arg("portable") = false,
               "A frame of LZ4 blocks, made to be decoded fast, from graphs (n, K); None if it were no smaller.");
}

}  // namespace ssl_data
