// A Blosc 1 frame (https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst): a header, where each block begins, and
// the blocks, which are compressed independently of each other.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "lz4.h"

namespace ssl_data {

inline std::uint32_t little_endian(const std::uint8_t* bytes) {
    return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | std::uint32_t{bytes[3]} << 24;
}

// Memory that a thread uses again and again; what lies in it is never cleared.
class Scratch {
   public:
    std::uint8_t* of(std::size_t size) {
        if (bytes_.size() < size) bytes_.resize(size + size / 4);
        return bytes_.data();
    }

   private:
    std::vector<std::uint8_t> bytes_;
};

// Decodes a block, for which there are `available` bytes: its compressed size, then as many bytes. See Lz4::decode, also
// for the slack that has to follow both.
inline bool decode_block(const std::uint8_t* from, std::size_t available, std::uint8_t* out, std::size_t size,
                         std::size_t wanted) {
    constexpr std::size_t kWordBytes = 4;
    if (available < kWordBytes) return false;
    const std::size_t encoded = little_endian(from);
    if (encoded > available - kWordBytes) return false;
    from += kWordBytes;
    if (encoded != size) return Lz4::decode(from, from + encoded, out, size, wanted);
    std::memcpy(out, from, wanted);  // it would not have become smaller
    return true;
}

struct Frame {
    static constexpr std::size_t kHeaderBytes = 16, kWordBytes = 4;
    static constexpr int kShuffled = 0x01, kStored = 0x02, kBitShuffled = 0x04, kNotSplit = 0x10, kLz4 = 1;

    const std::uint8_t* bytes;
    std::size_t length;

    int flags() const { return bytes[2]; }
    std::size_t num_bytes() const { return little_endian(bytes + 4); }
    std::size_t block_bytes() const { return little_endian(bytes + 8); }
    std::size_t num_blocks() const { return num_bytes() / block_bytes() + (num_bytes() % block_bytes() != 0); }

    // Whether the header fits the frame, and what the frame holds has this size.
    bool is_whole(std::size_t size) const {
        if (length < kHeaderBytes || little_endian(bytes + 12) != length || num_bytes() != size) return false;
        if (is_stored()) return length == kHeaderBytes + num_bytes();
        if (block_bytes() == 0 || block_bytes() > num_bytes()) return false;
        return num_blocks() <= (length - kHeaderBytes) / kWordBytes;
    }

    bool is_stored() const { return (flags() & kStored) != 0; }
    int item_bytes() const { return bytes[3]; }

    // Blocks of one LZ4 block each, which is not split into one for each byte of an item; shuffled in this way.
    bool is_lz4(int shuffle) const {
        const bool is_split = (flags() & kNotSplit) == 0 && item_bytes() != 1;
        return (flags() & (kShuffled | kBitShuffled)) == shuffle && flags() >> 5 == kLz4 && !is_split;
    }

    // Where the first block begins, if they are in order.
    static std::size_t first_block(std::size_t num_blocks) { return kHeaderBytes + kWordBytes * num_blocks; }

    // Where a block begins; not known to lie in the frame.
    std::size_t start(std::size_t block) const { return little_endian(bytes + kHeaderBytes + kWordBytes * block); }

    // As decode_block, but nothing has to follow the frame; `room` bytes follow the block in `out`.
    bool decode(std::size_t block, std::uint8_t* out, std::size_t size, std::size_t wanted, std::size_t room) const {
        const std::size_t first = start(block);
        if (first > length || length - first < kWordBytes) return false;
        const std::uint8_t* from = bytes + first;
        const std::size_t available = length - first, used = kWordBytes + little_endian(from);
        if (used > available) return false;
        static thread_local Scratch encoded_scratch, decoded_scratch;
        if (available - used < Lz4::kSlack) {
            std::uint8_t* const encoded = encoded_scratch.of(used + Lz4::kSlack);
            std::memcpy(encoded, from, used);
            from = encoded;
        }
        if (room >= Lz4::kSlack) return decode_block(from, used, out, size, wanted);
        std::uint8_t* const decoded = decoded_scratch.of(size + Lz4::kSlack);
        if (!decode_block(from, used, decoded, size, wanted)) return false;
        std::memcpy(out, decoded, wanted);
        return true;
    }
};

}  // namespace ssl_data
