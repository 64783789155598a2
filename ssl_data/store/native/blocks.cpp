// Graphs here and there in a shard file, of whose chunks only those blocks are read, checked and decoded in which they lie.
//
// A chunk is a Blosc 1 frame of LZ4 blocks (see blosc.cpp). Its block table, which lies in the shard behind the chunks,
// says where each block ends and what its checksum is; FORMAT.md describes it. All that a sample needs is done in one
// call, without Python: read, compare, decode, put in place.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "../../kernels/native/arrays.h"
#include "../../kernels/native/past_cache.h"
#include "../../kernels/native/turn.h"
#include "chunk_file.h"
#include "crc32c.h"
#include "frame.h"
#include "lz4.h"

namespace py = pybind11;

namespace ssl_data {
namespace {

constexpr std::size_t kEntryBytes = 8;
// Blocks with no more than so much between them are read at once: copying that costs less than asking twice.
constexpr std::size_t kGapBytes = 4 << 10;

// (end, checksum) of each block of a chunk, then the table's own checksum.
class BlockTable {
   public:
    BlockTable(const std::uint8_t* bytes, std::size_t num_blocks) : bytes_(bytes), num_blocks_(num_blocks) {}

    static std::size_t size(std::size_t num_blocks) { return num_blocks * kEntryBytes + kCrcBytes; }

    // Whether it is as it was written, and its blocks are in order and lie within a frame of this size.
    Trouble check(std::size_t frame_bytes, std::size_t block_bytes) const {
        const std::size_t own = num_blocks_ * kEntryBytes;
        if (Crc32c::of(bytes_, own) != little_endian(bytes_ + own)) return Trouble::bad_table;
        if (end(num_blocks_ - 1) == 0) return Trouble::other;
        for (std::size_t block = 0; block < num_blocks_; ++block) {
            const std::size_t from = begin(block), to = end(block);
            if (to < from + Frame::kWordBytes || to - from > Frame::kWordBytes + block_bytes || to > frame_bytes) {
                return Trouble::bad_table;
            }
        }
        return Trouble::none;
    }

    std::size_t begin(std::size_t block) const { return block == 0 ? Frame::first_block(num_blocks_) : end(block - 1); }
    std::size_t end(std::size_t block) const { return little_endian(bytes_ + block * kEntryBytes); }
    std::uint32_t checksum(std::size_t block) const { return little_endian(bytes_ + block * kEntryBytes + 4); }

   private:
    const std::uint8_t* bytes_;
    std::size_t num_blocks_;
};

struct Request {
    int file;
    const Place* chunks;
    std::size_t num_chunks;
    std::uint64_t tables;  // where their tables begin
    std::size_t chunk_bytes, block_bytes, row_bytes;
    const std::int32_t *rows, *places;  // rows count from the first of the chunks
    std::size_t num_rows;
    const std::uint16_t* columns;  // null: as they are
    std::uint8_t* out;
};

class Gatherer {
   public:
    explicit Gatherer(const Request& request)
        : request_(request),
          num_blocks_((request.chunk_bytes + request.block_bytes - 1) / request.block_bytes),
          chunk_rows_(request.chunk_bytes / request.row_bytes) {}

    // The first chunk that cannot be read, and why.
    std::pair<std::size_t, Trouble> run() {
        static thread_local Scratch scratch;
        const std::size_t table_bytes = BlockTable::size(num_blocks_), all = request_.num_chunks * table_bytes;
        std::uint8_t* const tables = scratch.of(all);
        const Trouble trouble = read(request_.tables, tables, all);
        if (trouble != Trouble::none) return {0, trouble};
        std::size_t next = 0;
        for (std::size_t chunk = 0; chunk < request_.num_chunks; ++chunk) {
            const std::size_t first = next, stop = (chunk + 1) * chunk_rows_;
            while (next < request_.num_rows && static_cast<std::size_t>(request_.rows[next]) < stop) ++next;
            if (next == first) continue;
            const BlockTable table = {tables + chunk * table_bytes, num_blocks_};
            const Trouble found = gather(chunk, table, first, next);
            if (found != Trouble::none) return {chunk, found};
        }
        PastCache::publish();
        return {0, Trouble::none};
    }

   private:
    struct Wanted {
        std::size_t block, bytes;  // counted from the block's first
    };

    Trouble read(std::uint64_t offset, std::uint8_t* to, std::size_t size) {
        return read_all(offset, to, size, [this](auto... where) { return read_some(where...); });
    }

    // As pread. The system reads ahead what follows what was read, but not across the gaps between blocks: a disk would be
    // asked for one after the other. So as soon as the first blocks of a chunk are not in memory, it is told all that may be
    // wanted. (To tell it in any case, or to look for each block, takes a tenth to a third longer if all is there.)
    ssize_t read_some(std::uint64_t offset, std::uint8_t* to, std::size_t size) {
        if (is_first_ && !is_asked_) {
#ifdef RWF_NOWAIT
            is_first_ = false;
            const iovec vector = {to, size};
            const ssize_t count = preadv2(request_.file, &vector, 1, static_cast<off_t>(offset), RWF_NOWAIT);
            if (count == static_cast<ssize_t>(size)) return count;
#endif
            ask_ahead();
            is_asked_ = true;
        }
        return pread(request_.file, to, size, static_cast<off_t>(offset));
    }

    void ask_ahead() const {
        const Place &front = request_.chunks[0], &back = request_.chunks[request_.num_chunks - 1];
        if (back.offset < front.offset) return;
        const std::uint64_t size = back.offset + back.size - front.offset;
        posix_fadvise(request_.file, static_cast<off_t>(front.offset), static_cast<off_t>(size), POSIX_FADV_WILLNEED);
    }

    // Rows first .. stop-1, which lie in this chunk.
    Trouble gather(std::size_t chunk, const BlockTable& table, std::size_t first, std::size_t stop) {
        static thread_local Scratch encoded_scratch, decoded_scratch;
        const Place& place = request_.chunks[chunk];
        const Trouble trouble = table.check(place.size, request_.block_bytes);
        if (trouble != Trouble::none) return trouble;
        find_wanted(chunk, first, stop);
        is_first_ = true;
        std::size_t copied = 0;
        PastCache copies;
        std::uint8_t* const decoded = decoded_scratch.of(request_.chunk_bytes + Lz4::kSlack);
        for (std::size_t i = 0; i < wanted_.size();) {
            const std::size_t next = end_of_read(table, i);
            const std::size_t begin = table.begin(wanted_[i].block), end = table.end(wanted_[next - 1].block);
            std::uint8_t* const encoded = encoded_scratch.of(end - begin + Lz4::kSlack);
            const Trouble found = read(place.offset + begin, encoded, end - begin);
            if (found != Trouble::none) return found;
            for (; i < next; ++i) {
                const std::size_t block = wanted_[i].block, at = block * request_.block_bytes;
                const std::uint8_t* const from = encoded + (table.begin(block) - begin);
                const std::size_t size = table.end(block) - table.begin(block);
                if (Crc32c::of(from, size) != table.checksum(block)) return Trouble::bad_block_checksum;
                const std::size_t in_block = std::min(request_.block_bytes, request_.chunk_bytes - at);
                const auto copy_a_line = [&copies] { copies.step(); };
                if (!decode_block(from, size, decoded + at, in_block, wanted_[i].bytes, copy_a_line)) return Trouble::bad_block;
                if (request_.columns == nullptr) copied = copy_up_to(at + in_block, decoded, first, copied, copies);
            }
        }
        if (request_.columns != nullptr) {
            turn_rows(Turn<std::uint8_t>{decoded, rows_.data(), request_.places + first, stop - first, request_.columns,
                                         request_.row_bytes, request_.out},
                      false);
        }
        copies.finish();
        return Trouble::none;
    }

    // Blocks wanted_[i] up to this one are read at once.
    std::size_t end_of_read(const BlockTable& table, std::size_t i) const {
        const std::size_t begin = table.begin(wanted_[i].block);
        std::size_t end = table.end(wanted_[i].block);
        for (++i; i < wanted_.size(); ++i) {
            const std::size_t from = table.begin(wanted_[i].block), to = table.end(wanted_[i].block);
            if (from - end > kGapBytes || to - begin > kMostReadBytes) break;
            end = to;
        }
        return i;
    }

    // Has the wanted rows of a chunk copied, from number `copied` on, that lie in its first `end` bytes; how many those are.
    std::size_t copy_up_to(std::size_t end, const std::uint8_t* decoded, std::size_t first, std::size_t copied,
                           PastCache& copies) {
        for (; copied < rows_.size(); ++copied) {
            const std::size_t begin = rows_[copied] * request_.row_bytes;
            if (begin + request_.row_bytes > end) break;
            const std::size_t place = request_.places[first + copied];
            copies.add(request_.out + place * request_.row_bytes, decoded + begin, request_.row_bytes);
        }
        return copied;
    }

    // Fills `rows_` with the rows as they are counted in the chunk, and `wanted_` with the blocks in which they lie.
    void find_wanted(std::size_t chunk, std::size_t first, std::size_t stop) {
        rows_.clear();
        wanted_.clear();
        for (std::size_t i = first; i < stop; ++i) {
            const std::size_t row = request_.rows[i] - chunk * chunk_rows_;
            const std::size_t begin = row * request_.row_bytes, end = begin + request_.row_bytes;
            rows_.push_back(static_cast<std::int32_t>(row));
            for (std::size_t block = begin / request_.block_bytes; block * request_.block_bytes < end; ++block) {
                const std::size_t bytes = std::min(end - block * request_.block_bytes, request_.block_bytes);
                if (wanted_.empty() || wanted_.back().block != block) wanted_.push_back({block, 0});
                wanted_.back().bytes = std::max(wanted_.back().bytes, bytes);
            }
        }
    }

    const Request& request_;
    std::size_t num_blocks_, chunk_rows_;
    bool is_first_ = false, is_asked_ = false;  // what is read next, of its chunk; the system, for all of them
    std::vector<std::int32_t> rows_;
    std::vector<Wanted> wanted_;
};

std::pair<std::size_t, std::string> gather_rows(int file, const Array<std::uint64_t>& chunks, std::uint64_t tables,
                                                std::size_t chunk_rows, std::size_t block_bytes,
                                                const Array<std::int32_t>& rows, const Array<std::int32_t>& places,
                                                const py::object& columns, Array<std::uint8_t>& out) {
    require(chunks.ndim() == 2 && chunks.shape(1) == 2 && chunks.shape(0) > 0, "chunks must have shape (n, 2)");
    require(out.ndim() == 2 && out.shape(1) > 0, "out must be two-dimensional");
    require(rows.ndim() == 1 && places.ndim() == 1 && rows.size() == places.size(), "rows and places must match");
    require(chunk_rows > 0 && block_bytes > 0, "chunk_rows and block_bytes must be positive");
    const std::int64_t num_rows = chunks.shape(0) * static_cast<std::int64_t>(chunk_rows);
    std::int64_t before = -1;
    for (py::ssize_t i = 0; i < rows.size(); ++i) {  // a row that came twice could have its block decoded while it is copied
        require(rows.data()[i] > before && rows.data()[i] < num_rows, "rows must ascend and lie in the chunks");
        before = rows.data()[i];
    }
    require(all_below(places, out.shape(0)), "places must lie in out");
    const Array<std::uint16_t> order = checked_columns(columns, out.shape(1));
    const std::size_t row_bytes = out.shape(1);
    const Request request = {file, reinterpret_cast<const Place*>(chunks.data()), static_cast<std::size_t>(chunks.shape(0)),
                             tables, chunk_rows * row_bytes, block_bytes, row_bytes, rows.data(), places.data(),
                             static_cast<std::size_t>(rows.size()), columns.is_none() ? nullptr : order.data(),
                             out.mutable_data()};
    return run_unlocked([&request] { return Gatherer(request).run(); });
}

// The block table of a chunk; all zeros, apart from its own checksum, where the frame is not divided as expected.
py::bytes block_table(const Array<std::uint8_t>& encoded, std::size_t block_bytes) {
    const Frame frame = {encoded.data(), static_cast<std::size_t>(encoded.size())};
    require(block_bytes > 0, "block_bytes must be positive");
    require(frame.length >= Frame::kHeaderBytes && frame.is_whole(frame.num_bytes()), "not a frame");
    const std::size_t num_blocks = (frame.num_bytes() + block_bytes - 1) / block_bytes;
    std::vector<std::uint8_t> table(BlockTable::size(num_blocks), 0);
    const auto put = [&table](std::size_t at, std::uint32_t value) { std::memcpy(table.data() + at, &value, 4); };
    if (!frame.is_stored() && frame.is_lz4(0) && frame.block_bytes() == block_bytes) {
        std::size_t begin = Frame::first_block(num_blocks);
        for (std::size_t block = 0; block < num_blocks; ++block) {
            require(frame.start(block) == begin && begin + Frame::kWordBytes <= frame.length, "blocks must be in order");
            const std::size_t end = begin + Frame::kWordBytes + little_endian(frame.bytes + begin);
            require(end <= frame.length, "blocks must lie in the frame");
            put(block * kEntryBytes, static_cast<std::uint32_t>(end));
            put(block * kEntryBytes + 4, Crc32c::of(frame.bytes + begin, end - begin));
            begin = end;
        }
    }
    const std::size_t own = num_blocks * kEntryBytes;
    put(own, Crc32c::of(table.data(), own));
    return py::bytes(reinterpret_cast<const char*>(table.data()), table.size());
}

}  // namespace

void add_blocks(py::module_& module) {
    module.attr("has_crc32c") = Crc32c::is_supported();
    module.def("crc32c", [](const Array<std::uint8_t>& bytes) { return Crc32c::of(bytes.data(), bytes.size()); },
               py::arg("data").noconvert(), "CRC-32C of some bytes, where `has_crc32c`.");
    module.def("block_table", block_table, py::arg("frame").noconvert(), py::arg("block_bytes"),
               "The block table of a chunk, where `has_crc32c`.");
    module.def("gather_rows", gather_rows, py::arg("file"), py::arg("chunks").noconvert(), py::arg("tables"),
               py::arg("chunk_rows"), py::arg("block_bytes"), py::arg("rows").noconvert(), py::arg("places").noconvert(),
               py::arg("columns").none(true), py::arg("out").noconvert(),
               "Fill rows of `out` from the chunks of a shard, where `has_crc32c`; the first faulty chunk, and its fault.");
}

}  // namespace ssl_data
