// Encoding graphs as LZ4 blocks (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md) that decode fast.
//
// Decoding a sequence takes about as long whether it makes six bytes or sixty, so few and long matches are wanted. Nearly
// all that repeats in graphs lies at a few distances: a graph is a square of values, and the graph before it is that of
// a neighbouring pixel. For each of these distances, bits say which bytes of a block equal the one that lies so far
// before them; the longest run of ones from a byte on is the longest match there. Nothing else is looked for, and matches
// of less than six bytes, which save next to nothing, are left alone. Compared with an encoder for anything, blocks are as
// large and decode in about 0.7 of the time; docs/decisions/0017-encoding-graphs.md has figures.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace ssl_data {

class GraphEncoder {
   public:
    // For blocks of up to `block_bytes` of graphs of `row_bytes` values, which are square. `portable`: without
    // instructions that not all processors have; the result is the same.
    GraphEncoder(std::size_t row_bytes, std::size_t block_bytes, bool portable)
        : distances_(distances(row_bytes, block_bytes)),
          num_words_(block_bytes / kBits + 1),
          equal_(distances_.size() * (num_words_ + 1)),
          starts_(num_words_),
          portable_(portable) {}

    // How many bytes `encode` may write.
    static std::size_t bound(std::size_t size) { return size + size / 255 + 16 + kVector; }

    // Encodes a block of `size` bytes, and returns how many bytes that makes.
    std::size_t encode(const std::uint8_t* block, std::size_t size, std::uint8_t* out) {
        find_equal(block, size);
        std::uint8_t* write = out;
        std::size_t begin = 0;  // of what is not encoded yet
        for (std::size_t at = next_start(0); at < size; at = next_start(begin)) {
            Match match = longest(at);
            while (is_start(at + 1)) {
                const Match later = longest(at + 1);
                if (later.length <= match.length + 1) break;
                match = later;
                ++at;
            }
            write = put_literals(write, block + begin, at - begin, size - begin, match.length - kShortestEncoded);
            write = put_match(write, match);
            begin = at + match.length;
        }
        return put_literals(write, block + begin, size - begin, size - begin, 0) - out;
    }

   private:
    static constexpr std::size_t kBits = 64, kVector = 16;
    // The format knows matches from four bytes on, ends with five literal bytes, and starts no match after the twelfth byte
    // from the end.
    static constexpr std::size_t kShortestEncoded = 4, kLastLiterals = 5, kLastStart = 12;
    static constexpr std::size_t kShortest = 6;
    static constexpr std::size_t kLong = 15, kMore = 255;

    struct Match {
        std::size_t length = 0, distance = 0;
    };

    // Those that are met most in graphs come first: of equally long matches the first is taken.
    static std::vector<std::size_t> distances(std::size_t row_bytes, std::size_t block_bytes) {
        std::size_t side = 1;
        while ((side + 1) * (side + 1) <= row_bytes) ++side;
        const std::size_t above = side, before = row_bytes;
        std::vector<std::size_t> chosen;
        for (const std::size_t distance : {above, before, above + 1, above - 1, before - 1, 2 * above, 2 * above + 1,
                                           before - above, before + above, before + 1, std::size_t{1}}) {
            const bool is_new = std::find(chosen.begin(), chosen.end(), distance) == chosen.end();
            if (distance > 0 && distance < block_bytes && distance <= 0xffff && is_new) chosen.push_back(distance);
        }
        return chosen;
    }

    std::uint64_t* equal(std::size_t which) { return equal_.data() + which * (num_words_ + 1); }
    const std::uint64_t* equal(std::size_t which) const { return equal_.data() + which * (num_words_ + 1); }

    void find_equal(const std::uint8_t* block, std::size_t size) {
        std::fill(starts_.begin(), starts_.end(), 0);
        std::fill(equal_.begin(), equal_.end(), 0);
        if (size <= kLastStart) return;
        const std::size_t stop = size - kLastLiterals;
        for (std::size_t which = 0; which < distances_.size(); ++which) {
            const std::size_t distance = distances_[which];
            if (distance >= stop) continue;
            std::uint64_t* const words = equal(which);
            for (std::size_t at = distance / kBits * kBits; at < stop; at += kBits) {
                const std::size_t from = std::max(at, distance);
                words[at / kBits] = equal_bits(block + from, distance, size - from) << (from - at);
            }
            words[stop / kBits] &= below(stop % kBits);
            find_starts(words);
        }
        const std::size_t first = size - kLastStart + 1;  // where no match starts
        starts_[first / kBits] &= below(first % kBits);
        std::fill(starts_.begin() + static_cast<std::ptrdiff_t>(first / kBits) + 1, starts_.end(), 0);
    }

    // Bit i says whether byte i, of `available` ones, equals the one `distance` before it.
    std::uint64_t equal_bits(const std::uint8_t* bytes, std::size_t distance, std::size_t available) const {
        std::uint64_t bits = 0;
#if defined(__x86_64__)
        if (!portable_ && available >= kBits) {
            for (std::size_t i = 0; i < kBits; i += kVector) {
                const __m128i here = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i));
                const __m128i there = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i - distance));
                bits |= static_cast<std::uint64_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(here, there))) << i;
            }
            return bits;
        }
#endif
        for (std::size_t i = 0; i < std::min(available, kBits); ++i) {
            bits |= std::uint64_t{bytes[i] == *(bytes + i - distance)} << i;
        }
        return bits;
    }

    // All bits that are lower than this one.
    static std::uint64_t below(std::size_t bit) { return (std::uint64_t{1} << bit) - 1; }

    // Adds to `starts_` where six ones follow each other.
    void find_starts(const std::uint64_t* words) {
        static_assert(kShortest == 6, "three pairs");
        std::uint64_t after = 0;
        for (std::size_t i = num_words_; i-- > 0;) {
            const std::uint64_t pairs = words[i] & shifted(words[i], words[i + 1], 1);
            starts_[i] |= pairs & shifted(pairs, after, 2) & shifted(pairs, after, 4);
            after = pairs;
        }
    }

    // The bits of two words from bit number `from` on.
    static std::uint64_t shifted(std::uint64_t word, std::uint64_t next, std::size_t from) {
        return word >> from | (next << 1) << (kBits - 1 - from);
    }

    static std::size_t leading_ones(std::uint64_t word) {  // from the lowest bit on
        return ~word == 0 ? kBits : static_cast<std::size_t>(__builtin_ctzll(~word));
    }

    bool is_start(std::size_t at) const { return (starts_[at / kBits] >> at % kBits & 1) != 0; }

    // The first start from `at` on; past the end of any block if there is none.
    std::size_t next_start(std::size_t at) const {
        std::size_t word = at / kBits;
        std::uint64_t bits = starts_[word] & ~std::uint64_t{0} << at % kBits;
        while (bits == 0) {
            if (++word == num_words_) return num_words_ * kBits;
            bits = starts_[word];
        }
        return word * kBits + static_cast<std::size_t>(__builtin_ctzll(bits));
    }

    Match longest(std::size_t at) const {
        Match best;
        for (std::size_t which = 0; which < distances_.size(); ++which) {
            const std::size_t length = num_ones(equal(which), at);
            if (length > best.length) best = {length, distances_[which]};
        }
        return best;
    }

    // How many ones follow each other from bit `at` on; the last word is zero.
    static std::size_t num_ones(const std::uint64_t* words, std::size_t at) {
        const std::uint64_t* const word = words + at / kBits;
        std::size_t count = leading_ones(shifted(word[0], word[1], at % kBits));
        if (count < kBits) return count;
        for (;;) {
            const std::size_t next = at + count, more = leading_ones(words[next / kBits] >> next % kBits);
            count += more;
            if (more < kBits - next % kBits) return count;
        }
    }

    static std::uint8_t* put_length(std::uint8_t* write, std::size_t length) {
        if (length < kLong) return write;
        for (length -= kLong; length >= kMore; length -= kMore) *write++ = kMore;
        *write++ = static_cast<std::uint8_t>(length);
        return write;
    }

    // A token and its literal bytes, behind which the block goes on, `available` bytes in all.
    static std::uint8_t* put_literals(std::uint8_t* write, const std::uint8_t* from, std::size_t count,
                                      std::size_t available, std::size_t match) {
        *write++ = static_cast<std::uint8_t>(std::min(count, kLong) << 4 | std::min(match, kLong));
        write = put_length(write, count);
        if (count <= kVector && available >= kVector) {
            std::memcpy(write, from, kVector);
        } else {
            std::memcpy(write, from, count);
        }
        return write + count;
    }

    static std::uint8_t* put_match(std::uint8_t* write, const Match& match) {
        *write++ = static_cast<std::uint8_t>(match.distance);
        *write++ = static_cast<std::uint8_t>(match.distance >> 8);
        return put_length(write, match.length - kShortestEncoded);
    }

    std::vector<std::size_t> distances_;
    std::size_t num_words_;              // enough for a block, and a zero
    std::vector<std::uint64_t> equal_;   // for each distance, a bit for each byte, and a word of zeros
    std::vector<std::uint64_t> starts_;  // where a match of at least six bytes starts
    bool portable_;
};

}  // namespace ssl_data
