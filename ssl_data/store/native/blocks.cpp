// Graphs here and there in a shard file, of whose chunks only those blocks are read, checked and decoded in which they lie.
//
// A chunk is a Blosc 1 frame of LZ4 blocks (see blosc.cpp). Its block table, which lies in the shard behind the chunks,
// says where each block ends and what its checksum is; FORMAT.md describes it. All that some samples need is done in one
// call, without Python: read, compare, decode, put in place.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
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

// Rows that follow each other in the chunks and, if their columns stay as they are, in `out`: edge pixels side by side.
struct Run {
    std::size_t row, index, count;  // `index` counts all rows of a request
};

// What is to be read from a shard, checked and ready to be done.
class Request {
   public:
    Request(const Array<std::uint64_t>& places_of_chunks, std::uint64_t tables, std::size_t chunk_rows, std::size_t block_bytes,
            std::int64_t shift, const Array<std::int32_t>& rows, const Array<std::int32_t>& places,
            const py::object& columns, const Array<std::uint8_t>& out)
        : tables(tables), block_bytes(block_bytes), chunks_(places_of_chunks), out_(out) {
        require(chunks_.ndim() == 2 && chunks_.shape(1) == 2 && chunks_.shape(0) > 0, "chunks must have shape (n, 2)");
        require(out_.ndim() == 2 && out_.shape(1) > 0, "out must be two-dimensional");
        require(rows.ndim() == 1 && places.ndim() == 1 && rows.size() == places.size(), "rows and places must match");
        require(chunk_rows > 0 && block_bytes > 0, "chunk_rows and block_bytes must be positive");
        require(chunk_rows <= kMost && out_.shape(1) <= std::int64_t{kMost}, "a chunk must not be that large");
        require(all_below(places, out_.shape(0)), "places must lie in out");
        num_chunks = chunks_.shape(0);
        row_bytes = out_.shape(1);
        chunk_bytes = chunk_rows * row_bytes;
        chunks = reinterpret_cast<const Place*>(chunks_.data());
        this->out = out_.mutable_data();
        const Array<std::uint16_t> order = checked_columns(columns, out_.shape(1));
        columns_.assign(order.data(), order.data() + order.size());
        places_.assign(places.data(), places.data() + places.size());
        find_runs(rows, shift, static_cast<std::int64_t>(num_chunks * chunk_rows));
    }

    // For each column of `out` the one it comes from; null: as they are.
    const std::uint16_t* columns() const { return columns_.empty() ? nullptr : columns_.data(); }
    // Where rows go: the places of a run begin at its index.
    const std::int32_t* places() const { return places_.data(); }

    std::uint64_t tables;  // where the chunks' tables begin
    std::size_t num_chunks, chunk_bytes, block_bytes, row_bytes;
    const Place* chunks;
    std::vector<Run> runs;  // rows count from the first of the chunks
    std::uint8_t* out;

   private:
    static constexpr std::uint32_t kMost = std::numeric_limits<std::int32_t>::max();

    void find_runs(const Array<std::int32_t>& rows, std::int64_t shift, std::int64_t num_rows) {
        const std::int32_t *const row = rows.data(), *const place = places_.data();
        const bool is_turned = columns() != nullptr;
        std::int64_t before = -1;
        for (std::int64_t i = 0, next; i < rows.size(); i = next) {
            const std::int64_t first = row[i] + shift, to = place[i];
            // A row that came twice could have its block decoded while it is copied.
            require(first > before, "rows must ascend");
            const auto follows = [&](std::int64_t k) {
                return row[k] + shift == first + (k - i) && (is_turned || place[k] == to + (k - i));
            };
            for (next = i + 1; next < rows.size() && follows(next);) ++next;
            before = first + (next - i) - 1;
            runs.push_back({static_cast<std::size_t>(first), static_cast<std::size_t>(i), static_cast<std::size_t>(next - i)});
        }
        require(before < num_rows, "rows must lie in the chunks");
    }

    Array<std::uint64_t> chunks_;  // kept alive, as `out_` is; their places are checked when they are used
    Array<std::uint8_t> out_;
    std::vector<std::uint16_t> columns_;  // copies, since they are checked only once
    std::vector<std::int32_t> places_;
};

class Gatherer {
   public:
    Gatherer(int file, const Request& request)
        : file_(file),
          request_(request),
          num_blocks_((request.chunk_bytes + request.block_bytes - 1) / request.block_bytes),
          chunk_rows_(request.chunk_bytes / request.row_bytes) {}

    // The first chunk that cannot be read, and why.
    std::pair<std::size_t, Trouble> run() {
        static thread_local Scratch scratch;
        const std::size_t table_bytes = BlockTable::size(num_blocks_), all = request_.num_chunks * table_bytes;
        std::uint8_t* const tables = scratch.of(all);
        const Trouble trouble = read(request_.tables, tables, all);
        if (trouble != Trouble::none) return {0, trouble};
        auto next = request_.runs.begin();
        std::size_t done = 0;  // rows of the next run
        for (std::size_t chunk = 0; chunk < request_.num_chunks; ++chunk) {
            const std::size_t begin = chunk * chunk_rows_, end = begin + chunk_rows_;
            runs_.clear();
            while (next != request_.runs.end() && next->row + done < end) {
                const std::size_t count = std::min(next->count - done, end - next->row - done);
                runs_.push_back({next->row + done - begin, next->index + done, count});
                done += count;
                if (done == next->count) ++next, done = 0;
            }
            if (runs_.empty()) continue;
            const BlockTable table = {tables + chunk * table_bytes, num_blocks_};
            const Trouble found = gather(chunk, table);
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
            const ssize_t count = preadv2(file_, &vector, 1, static_cast<off_t>(offset), RWF_NOWAIT);
            if (count == static_cast<ssize_t>(size)) return count;
#endif
            ask_ahead();
            is_asked_ = true;
        }
        return pread(file_, to, size, static_cast<off_t>(offset));
    }

    void ask_ahead() const {
        const Place &front = request_.chunks[0], &back = request_.chunks[request_.num_chunks - 1];
        if (back.offset < front.offset) return;
        const std::uint64_t size = back.offset + back.size - front.offset;
        posix_fadvise(file_, static_cast<off_t>(front.offset), static_cast<off_t>(size), POSIX_FADV_WILLNEED);
    }

    // The rows of `runs_`, which lie in this chunk and count from its first.
    Trouble gather(std::size_t chunk, const BlockTable& table) {
        static thread_local Scratch encoded_scratch, decoded_scratch;
        const Place& place = request_.chunks[chunk];
        is_first_ = true;
        const Trouble trouble = table.check(place.size, request_.block_bytes);
        if (trouble == Trouble::other) return gather_undivided(place, encoded_scratch);
        if (trouble != Trouble::none) return trouble;
        find_wanted();
        Copying copying = {runs_.data()};
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
                const auto copy_a_line = [&copying] { copying.copies.step(); };
                if (!decode_block(from, size, decoded + at, in_block, wanted_[i].bytes, copy_a_line)) return Trouble::bad_block;
                if (request_.columns() == nullptr) copy_up_to(at + in_block, decoded, copying);
            }
        }
        put_in_place(decoded, copying);
        return Trouble::none;
    }

    // The same for a chunk that has no blocks since it would not have become smaller: it is read and checked as a whole.
    Trouble gather_undivided(const Place& place, Scratch& scratch) {
        if (place.size != Frame::kHeaderBytes + request_.chunk_bytes + kCrcBytes) return Trouble::other;
        std::uint8_t* const encoded = scratch.of(place.size + Lz4::kSlack);
        const Trouble found = read(place.offset, encoded, place.size);
        if (found != Trouble::none) return found;
        const Trouble trouble = check_chunk(encoded, place.size);
        if (trouble != Trouble::none) return trouble;
        const Frame frame = {encoded, place.size - kCrcBytes};
        if (!frame.is_whole(request_.chunk_bytes)) return Trouble::bad_block;
        if (!frame.is_stored()) return Trouble::other;
        Copying copying = {runs_.data()};
        put_in_place(encoded + Frame::kHeaderBytes, copying);
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

    // How far copying has come: in this run, after so many of its bytes.
    struct Copying {
        const Run* run;
        std::size_t bytes = 0;
        PastCache copies = {};
    };

    // All that is wanted of a chunk, so far as it is not in place.
    void put_in_place(const std::uint8_t* graphs, Copying& copying) {
        if (request_.columns() != nullptr) return turn(graphs);
        copy_up_to(request_.chunk_bytes, graphs, copying);
        copying.copies.finish();
    }

    // Has what is wanted of the chunk's first `end` bytes copied, so far as it is not.
    void copy_up_to(std::size_t end, const std::uint8_t* decoded, Copying& copying) const {
        const Run* const last = runs_.data() + runs_.size();
        while (copying.run != last) {
            const std::size_t begin = copying.run->row * request_.row_bytes, all = copying.run->count * request_.row_bytes;
            const std::size_t from = begin + copying.bytes;
            if (from >= end) return;
            const std::size_t size = std::min(all - copying.bytes, end - from);
            const std::size_t place = request_.places()[copying.run->index];
            copying.copies.add(request_.out + place * request_.row_bytes + copying.bytes, decoded + from, size);
            copying.bytes += size;
            if (copying.bytes < all) return;
            ++copying.run;
            copying.bytes = 0;
        }
    }

    // Puts the rows of a chunk in place, their columns reordered.
    void turn(const std::uint8_t* decoded) {
        const std::size_t first = runs_.front().index, count = runs_.back().index + runs_.back().count - first;
        rows_.resize(std::max(rows_.size(), count));
        std::int32_t* row = rows_.data();
        for (const Run& run : runs_) {
            for (std::size_t i = 0; i < run.count; ++i) *row++ = static_cast<std::int32_t>(run.row + i);
        }
        const Turn<std::uint8_t> problem = {decoded, rows_.data(), request_.places() + first, count,
                                            request_.columns(), request_.row_bytes, request_.out};
        turn_rows(problem, false);
    }

    // Fills `wanted_` with the blocks in which the rows of `runs_` lie.
    void find_wanted() {
        wanted_.clear();
        for (const Run& run : runs_) {
            const std::size_t begin = run.row * request_.row_bytes, end = begin + run.count * request_.row_bytes;
            for (std::size_t block = begin / request_.block_bytes; block * request_.block_bytes < end; ++block) {
                const std::size_t bytes = std::min(end - block * request_.block_bytes, request_.block_bytes);
                if (wanted_.empty() || wanted_.back().block != block) wanted_.push_back({block, 0});
                wanted_.back().bytes = bytes;  // rows ascend
            }
        }
    }

    int file_;
    const Request& request_;
    std::size_t num_blocks_, chunk_rows_;
    bool is_first_ = false, is_asked_ = false;  // what is read next, of its chunk; the system, for all of them
    std::vector<Run> runs_;
    std::vector<std::int32_t> rows_;
    std::vector<Wanted> wanted_;
};

// Does requests one after the other, each from its file, with no Python between them. The number of the first that cannot be
// done, or of all, and what became of it.
std::tuple<std::size_t, Report> gather(const std::vector<int>& files, const std::vector<const Request*>& requests) {
    require(files.size() == requests.size(), "there must be a file for each request");
    for (const Request* request : requests) require(request != nullptr, "requests must not be None");
    std::size_t number = 0;
    const Report report = run_unlocked([&]() -> std::pair<std::size_t, Trouble> {
        for (; number < requests.size(); ++number) {
            const auto found = Gatherer(files[number], *requests[number]).run();
            if (found.second != Trouble::none) return found;
        }
        return {0, Trouble::none};
    });
    return {number, report};
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
    py::class_<Request>(module, "GatherRequest", "Rows of `out` to be filled from the chunks of a shard, where `has_crc32c`.")
        .def(py::init<const Array<std::uint64_t>&, std::uint64_t, std::size_t, std::size_t, std::int64_t,
                      const Array<std::int32_t>&, const Array<std::int32_t>&, const py::object&, const Array<std::uint8_t>&>(),
             py::arg("chunks").noconvert(), py::arg("tables"), py::arg("chunk_rows"), py::arg("block_bytes"),
             py::arg("shift"), py::arg("rows").noconvert(), py::arg("places").noconvert(), py::arg("columns").none(true),
             py::arg("out").noconvert());
    module.def("gather", gather, py::arg("files"), py::arg("requests"),
               "Do requests; the number of the first that cannot be done, or of all; its faulty chunk, the fault, errno.");
}

}  // namespace ssl_data
