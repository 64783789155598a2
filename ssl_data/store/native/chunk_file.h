// Chunks in a shard file: where they lie, reading them, and what can be wrong with one.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#include "../../kernels/native/unlocked.h"
#include "crc32c.h"
#include "frame.h"

namespace ssl_data {

constexpr std::size_t kCrcBytes = 4;
// No more than so many bytes are read at once: they stay in the core's cache until they are decoded.
constexpr std::size_t kMostReadBytes = 256 << 10;

// An entry of a shard's index.
struct Place {
    std::uint64_t offset, size;
};

// `other`: a chunk that is left to the library, which can read all of them.
enum class Trouble { none, other, cut_off, bad_table, bad_block_checksum, bad_chunk_checksum, bad_block, system };

inline std::string describe(Trouble trouble) {
    switch (trouble) {
        case Trouble::none: return "";
        case Trouble::other: return "other";
        case Trouble::cut_off: return "the file ends before it does";
        case Trouble::bad_table: return "its block table was altered";
        case Trouble::bad_block_checksum: return "a block's CRC-32C does not match";
        case Trouble::bad_chunk_checksum: return "its CRC-32C does not match";
        case Trouble::system: return "system";
        default: return "a block does not decode";
    }
}

// Fills `to` from a place of the file; `read_some` is like pread, of one file.
template <class Read>
Trouble read_all(std::uint64_t offset, std::uint8_t* to, std::size_t size, const Read& read_some) {
    while (size > 0) {
        const auto count = read_some(offset, to, size);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Trouble::system;
        if (count == 0) return Trouble::cut_off;
        offset += count;
        to += count;
        size -= count;
    }
    return Trouble::none;
}

// Whether a chunk is a frame, before its checksum.
inline Trouble check_chunk(const std::uint8_t* encoded, std::size_t size) {
    if (size <= kCrcBytes) return Trouble::bad_chunk_checksum;
    const std::size_t length = size - kCrcBytes;
    if (Crc32c::of(encoded, length) != little_endian(encoded + length)) return Trouble::bad_chunk_checksum;
    return length < Frame::kHeaderBytes ? Trouble::bad_block : Trouble::none;
}

// What became of a reading, for Python: the first faulty chunk, its fault, and the number of the system's error or 0.
using Report = std::tuple<std::size_t, std::string, int>;

// Does `work` while other threads run; it returns the first faulty chunk, and its trouble.
template <class Work>
Report run_unlocked(const Work& work) {
    std::pair<std::size_t, Trouble> result;
    int error;
    {
        const Unlocked unlocked;
        result = work();
        error = errno;
    }
    return {result.first, describe(result.second), result.second == Trouble::system ? error : 0};
}

}  // namespace ssl_data
