// Decoding an LZ4 block (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md), or only its beginning.
//
// A block is a list of sequences: some literal bytes, then a match, which repeats bytes that lie a little way back. In
// graphs a sequence makes some 20 to 30 bytes, both parts mostly short. So a fixed number of bytes is copied without asking
// how many of them count: what is too much is overwritten by the next sequence, and where the last one may put it there has
// to be room. Short matches are copied by eight bytes, since they often repeat what was written just before: a wider load
// would have to wait for several stores.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are put together in the order of the bytes in memory"
#endif

namespace ssl_data {

class Lz4 {
   public:
    // So many bytes behind an encoded block may be read, and behind a decoded one written: they must exist.
    static constexpr std::size_t kSlack = 64;

    // Decodes a block of `size` bytes at least up to its byte number `wanted`; the rest may hold anything afterwards.
    // False for what is no such block. Once for each sequence, `meanwhile()` is done: decoding mostly waits for the
    // core's own registers and branches, so that some of what is moved through the memory then costs no time.
    template <class Meanwhile>
    static bool decode(const std::uint8_t* read, const std::uint8_t* const end, std::uint8_t* const out, std::size_t size,
                       std::size_t wanted, Meanwhile&& meanwhile) {
        std::uint8_t* write = out;
        const std::uint8_t *const stop = out + size, *const enough = out + wanted;
        // Nothing leads more than 50 bytes past `end` or `stop` before it is compared with them.
        while (write < enough) {
            meanwhile();
            const std::uint8_t token = *read++;
            std::size_t num_literals = token >> 4, length = token & 15;
            if (num_literals != kLong) {
                copy<kVector>(write, read);
            } else {
                num_literals += *read++;
                copy<kVector>(write, read);
                copy<kVector>(write + kVector, read + kVector);
                if (num_literals > 2 * kVector) {
                    if (num_literals == kLong + kMore && !extend(read, end, num_literals)) return false;
                    if (!fits(num_literals, read, end) || !fits(num_literals, write, stop)) return false;
                    copy_vectors(write, read, num_literals);
                }
            }
            read += num_literals;
            write += num_literals;
            if (read >= end) return read == end && write == stop;  // the last sequence has no match

            const std::size_t distance = two_bytes(read);
            read += 2;
            if (distance == 0 || distance > static_cast<std::size_t>(write - out)) return false;
            if (length != kLong && distance >= kWord) {
                const std::uint8_t* const from = write - distance;
                copy<kWord>(write, from);
                copy<kWord>(write + kWord, from + kWord);
                copy<2>(write + 2 * kWord, from + 2 * kWord);
                write += length + kShortestMatch;
                continue;
            }
            if (length == kLong) {
                length += *read++;
                if (length == kLong + kMore && !extend(read, end, length)) return false;
            }
            length += kShortestMatch;
            if (!fits(length, write, stop)) return false;
            repeat(write, distance, length);
            write += length;
        }
        return wanted < size ? write <= stop && read <= end : write == stop && read == end;
    }

   private:
    static constexpr std::size_t kWord = 8, kVector = 16, kShortestMatch = 4, kLong = 15, kMore = 255;

    static std::size_t two_bytes(const std::uint8_t* from) {
        std::uint16_t two;
        std::memcpy(&two, from, 2);
        return two;
    }

    template <std::size_t size>
    static void copy(std::uint8_t* to, const std::uint8_t* from) {
        std::memcpy(to, from, size);
    }

    static bool fits(std::size_t length, const std::uint8_t* begin, const std::uint8_t* end) {
        return begin <= end && length <= static_cast<std::size_t>(end - begin);
    }

    // Adds the bytes that follow to a length of which the last byte was 255: all up to the first that is not.
    static bool extend(const std::uint8_t*& read, const std::uint8_t* end, std::size_t& length) {
        std::size_t next = kMore;
        while (next == kMore) {
            if (read >= end) return false;
            next = *read++;
            length += next;
        }
        return true;
    }

    // Copies `length` bytes and up to 31 more.
    static void copy_vectors(std::uint8_t* to, const std::uint8_t* from, std::size_t length) {
        for (const std::uint8_t* const until = to + length; to < until; to += 2 * kVector, from += 2 * kVector) {
            copy<kVector>(to, from);
            copy<kVector>(to + kVector, from + kVector);
        }
    }

    // Appends `length` bytes, each equal to the one `distance` before it, which may be among them, and up to 31 more.
    static void repeat(std::uint8_t* write, std::size_t distance, std::size_t length) {
        const std::uint8_t *const from = write - distance, *const until = write + length;
        if (distance >= kVector) return copy_vectors(write, from, length);
        if (distance >= kWord) {
            for (std::size_t i = 0; i < length; i += kWord) copy<kWord>(write + i, from + i);
            return;
        }
        // What is repeated, as often as it fits into a word, is written again and again.
        constexpr std::uint64_t kOnce[kWord] = {0, 0x0101010101010101, 0x0001000100010001, 0x0001000001000001,
                                                0x0000000100000001, 0x0000010000000001, 0x0001000000000001,
                                                0x0100000000000001};
        constexpr std::uint8_t kStep[kWord] = {0, 8, 8, 6, 8, 5, 6, 7};  // its whole repetitions take so many bytes
        std::uint64_t word;
        std::memcpy(&word, from, kWord);
        word = (word & ~std::uint64_t{0} >> (64 - 8 * distance)) * kOnce[distance];
        const std::size_t step = kStep[distance];
        if (step == kWord) {
            const std::uint64_t twice[] = {word, word};
            for (; write < until; write += 2 * kVector) {
                std::memcpy(write, twice, kVector);
                std::memcpy(write + kVector, twice, kVector);
            }
        } else {
            for (; write < until; write += step) std::memcpy(write, &word, kWord);
        }
    }
};

}  // namespace ssl_data
