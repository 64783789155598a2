// Decoding an LZ4 block (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md), or only its beginning.
//
// A block is a list of sequences: some literal bytes, then a match, which repeats bytes that lie a little way back. In
// graphs a sequence makes some 20 bytes, both parts mostly short. So as long as there is room, a fixed number of bytes is
// copied without asking how many of them count: what is too much is overwritten by the next sequence. Matches are copied by
// eight bytes, since they often repeat what was written just before: a wider load would have to wait for several stores.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are put together in the order of the bytes in memory"
#endif

namespace ssl_data {

class Lz4 {
   public:
    // Decodes a block of `size` bytes at least up to its byte number `wanted`; the rest may hold anything afterwards.
    // False for what is no such block.
    static bool decode(const std::uint8_t* read, const std::uint8_t* end, std::uint8_t* out, std::size_t size,
                       std::size_t wanted) {
        std::uint8_t* write = out;
        const std::uint8_t *const stop = out + size, *const enough = out + wanted;
        // Before these there is room for a short sequence, whatever it is, and for all that is copied too much.
        const std::uint8_t* const read_edge = end - std::min(bytes(read, end), 2 * kWide);
        const std::uint8_t* const write_edge = stop - std::min(size, 3 * kWide);
        while (write < enough) {
            if (read == end) return false;
            const std::uint8_t token = *read++;
            std::size_t num_literals = token >> 4, length = token & 15, distance;
            if (read < read_edge && write < write_edge && (num_literals != kLong || *read <= kWide - kLong)) {
                if (num_literals == kLong) {
                    num_literals += *read++;
                    std::memcpy(write, read, kWide);
                } else {
                    std::memcpy(write, read, 2 * kWord);
                }
                write += num_literals;
                distance = little_endian(read + num_literals);
                read += num_literals + 2;
                if (length != kLong && distance >= kWord && distance <= bytes(out, write)) {
                    copy<2>(write, write - distance);
                    std::memcpy(write + 2 * kWord, write + 2 * kWord - distance, 2);
                    write += length + kShortestMatch;
                    continue;
                }
            } else {
                if (num_literals == kLong && !extend(read, end, num_literals)) return false;
                if (num_literals > bytes(read, end) || num_literals > bytes(write, stop)) return false;
                std::memcpy(write, read, num_literals);
                read += num_literals;
                write += num_literals;
                if (read == end) break;  // the last sequence has no match
                if (bytes(read, end) < 2) return false;
                distance = little_endian(read);
                read += 2;
            }
            if (length == kLong && !extend(read, end, length)) return false;
            length += kShortestMatch;
            if (distance == 0 || distance > bytes(out, write) || length > bytes(write, stop)) return false;
            const std::size_t room = bytes(write, stop) - length;
            if (room >= kWide) {
                repeat(write, distance, length);
            } else {
                const std::size_t careful = std::min(length, kWide - room);
                if (length > careful) repeat(write, distance, length - careful);
                for (std::size_t i = length - careful; i < length; ++i) write[i] = (write - distance)[i];
            }
            write += length;
        }
        return wanted < size ? write >= enough : write == stop && read == end;
    }

   private:
    static constexpr std::size_t kWord = 8, kWide = 32, kShortestMatch = 4, kLong = 15;

    static std::size_t bytes(const std::uint8_t* begin, const std::uint8_t* end) {
        return static_cast<std::size_t>(end - begin);
    }

    static std::size_t little_endian(const std::uint8_t* two) { return two[0] | two[1] << 8; }

    // Words, one after the other: each may repeat the one before.
    template <std::size_t num_words>
    static void copy(std::uint8_t* to, const std::uint8_t* from) {
        for (std::size_t i = 0; i < num_words; ++i) std::memcpy(to + i * kWord, from + i * kWord, kWord);
    }

    // Adds the bytes that follow to a length of 15: all up to the first that is not 255.
    static bool extend(const std::uint8_t*& read, const std::uint8_t* end, std::size_t& length) {
        std::uint8_t next = 255;
        while (next == 255) {
            if (read == end) return false;
            next = *read++;
            length += next;
        }
        return true;
    }

    // Appends `length` bytes, each equal to the one `distance` before it, which may be among them, and up to 32 more.
    static void repeat(std::uint8_t* write, std::size_t distance, std::size_t length) {
        const std::uint8_t *from = write - distance, *const until = write + length;
        if (distance >= kWord) {
            for (; write < until; write += kWide, from += kWide) copy<4>(write, from);
            return;
        }
        // What is repeated, as often as it fits into a word, is written again and again.
        std::uint64_t word;
        std::memcpy(&word, from, kWord);
        word &= ~std::uint64_t{0} >> (64 - 8 * distance);
        for (std::size_t filled = distance; filled < kWord; filled *= 2) word |= word << 8 * filled;
        const std::size_t step = kWord / distance * distance;
        if (step == kWord) {
            for (; write < until; write += kWide) {
                for (std::size_t i = 0; i < kWide; i += kWord) std::memcpy(write + i, &word, kWord);
            }
        } else {
            for (; write < until; write += step) std::memcpy(write, &word, kWord);
        }
    }
};

}  // namespace ssl_data
