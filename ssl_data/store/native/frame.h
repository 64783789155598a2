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
// for the slack that has to follow both, and for what is done meanwhile.
template <class Meanwhile>
bool decode_block(const std::uint8_t* from, std::size_t available, std::uint8_t* out, std::size_t size, std::size_t wanted,
                  Meanwhile&& meanwhile) {
    constexpr std::size_t kWordBytes = 4;
    if (available < kWordBytes) return false;
    const std::size_t encoded = little_endian(from);
    if (encoded > available - kWordBytes) return false;
    from += kWordBytes;
    if (encoded != size) return Lz4::decode(from, from + encoded, out, size, wanted, meanwhile);
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
        const auto nothing = [] {};
        if (room >= Lz4::kSlack) return decode_block(from, used, out, size, wanted, nothing);
        std::uint8_t* const decoded = decoded_scratch.of(size + Lz4::kSlack);
        if (!decode_block(from, used, decoded, size, wanted, nothing)) return false;
        std::memcpy(out, decoded, wanted);
        return true;
    }
};

// What became of a frame; others than plain ones are left to the library.
enum class Outcome { decoded, corrupt, other };

// Decodes what a frame of `size` bytes holds: of each block as many bytes as wanted(block), from its first on; others may
// hold anything afterwards. `room` bytes follow `out`.
template <class Wanted>
Outcome decode_blocks(const Frame& frame, std::uint8_t* out, std::size_t size, std::size_t room, const Wanted& wanted) {
    if (!frame.is_whole(size)) return Outcome::corrupt;
    if (frame.is_stored()) {
        std::memcpy(out, frame.bytes + Frame::kHeaderBytes, size);
        return Outcome::decoded;
    }
    if (!frame.is_lz4(0)) return Outcome::other;
    const std::size_t block_bytes = frame.block_bytes();
    for (std::size_t block = 0; block < frame.num_blocks(); ++block) {
        const std::size_t num_bytes = wanted(block);
        if (num_bytes == 0) continue;
        const std::size_t begin = block * block_bytes, in_block = std::min(block_bytes, size - begin);
        const std::size_t behind = size - begin - in_block + room;
        if (!frame.decode(block, out + begin, in_block, num_bytes, behind)) return Outcome::corrupt;
    }
    return Outcome::decoded;
}

struct Spread {
    std::uint8_t bytes[256][8] = {};

    constexpr Spread() {
        for (int bits = 0; bits < 256; ++bits) {
            for (int i = 0; i < 8; ++i) bytes[bits][i] = bits >> i & 1;
        }
    }
};

inline constexpr Spread kSpread;

// Decodes a mask of `size` bytes. It is bit-shuffled: a block begins with the lowest bits of all its bytes, packed, and goes
// on with the other bits, which are zero. take(bits, begin, end) gets the packed bits of each block, and where its bytes lie.
template <class Take>
Outcome decode_packed(const Frame& frame, std::size_t size, const Take& take) {
    if (!frame.is_whole(size)) return Outcome::corrupt;
    if (frame.is_stored() || !frame.is_lz4(Frame::kBitShuffled) || frame.item_bytes() != 1) return Outcome::other;
    static thread_local Scratch scratch;
    const std::size_t block_bytes = frame.block_bytes();
    std::uint8_t* const shuffled = scratch.of(std::min(block_bytes, size) + Lz4::kSlack);
    for (std::size_t block = 0; block < frame.num_blocks(); ++block) {
        const std::size_t begin = block * block_bytes, in_block = std::min(block_bytes, size - begin);
        if (in_block % 8 != 0) return Outcome::other;  // Blosc does not shuffle such blocks
        if (!frame.decode(block, shuffled, in_block, in_block, Lz4::kSlack)) return Outcome::corrupt;
        const std::uint8_t *const rest = shuffled + in_block / 8, *const end = shuffled + in_block;
        std::uint8_t others = 0;
        for (const std::uint8_t* bits = rest; bits != end; ++bits) others |= *bits;
        if (others != 0) return Outcome::other;
        take(shuffled, begin, begin + in_block);
    }
    return Outcome::decoded;
}

// The same, to a byte for each pixel. Eight are looked up at a time.
inline Outcome decode_bits(const Frame& frame, std::uint8_t* out, std::size_t size) {
    return decode_packed(frame, size, [out](const std::uint8_t* bits, std::size_t begin, std::size_t end) {
        for (std::uint8_t* to = out + begin; to != out + end; to += 8) std::memcpy(to, kSpread.bytes[*bits++], 8);
    });
}

}  // namespace ssl_data
