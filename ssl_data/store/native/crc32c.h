// CRC-32C (RFC 3720), the checksum of chunks and of their blocks, at the speed of the cache.
//
// A message is a polynomial over GF(2). What lies n bits before the end of a message counts x^n times, and x^n may be
// replaced by its remainder modulo the checksum's polynomial, of 32 bits. So 64 bytes at a time are multiplied by such
// remainders and added to the bytes that follow at some distance, until 64 bytes stand for all; their checksum is then
// taken by the processor's own instruction, eight bytes a time. Bits come in the order of RFC 3720: the lowest of a
// byte is the highest power.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ssl_data {

#if defined(__x86_64__)

class Crc32c {
   public:
    // Whether this processor has the instructions.
    static bool is_supported() { return __builtin_cpu_supports("sse4.2"); }

    static std::uint32_t of(const std::uint8_t* bytes, std::size_t size) {
        static const bool is_wide = __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512f");
        return ~(is_wide && size >= 2 * kStep ? folded(bytes, size) : direct(~0U, bytes, size));
    }

   private:
    static constexpr std::size_t kWide = 64, kStep = 4 * kWide;

    // x^n modulo the polynomial.
    static constexpr std::uint32_t power(std::size_t n) {
        std::uint32_t value = 0x80000000;
        for (; n > 0; --n) value = value >> 1 ^ ((value & 1) != 0 ? 0x82F63B78 : 0);
        return value;
    }

    // What 16 bytes, `distance` bytes before others, are multiplied by: the first eight, and the last eight. The product
    // of two reflected words is shifted by one place, hence one power less.
    static constexpr std::int64_t first(std::size_t distance) {
        return static_cast<std::int64_t>(std::uint64_t{power(8 * distance + 63)} << 32);
    }
    static constexpr std::int64_t last(std::size_t distance) {
        return static_cast<std::int64_t>(std::uint64_t{power(8 * distance - 1)} << 32);
    }

    __attribute__((target("sse4.2"))) static std::uint32_t direct(std::uint32_t crc, const std::uint8_t* bytes,
                                                                  std::size_t size) {
        std::uint64_t state = crc;
        for (; size >= 8; bytes += 8, size -= 8) {
            std::uint64_t word;
            std::memcpy(&word, bytes, 8);
            state = _mm_crc32_u64(state, word);
        }
        crc = static_cast<std::uint32_t>(state);
        for (; size > 0; ++bytes, --size) crc = _mm_crc32_u8(crc, *bytes);
        return crc;
    }

    __attribute__((target("avx512f"))) static __m512i loaded(const std::uint8_t* bytes) { return _mm512_loadu_si512(bytes); }

    __attribute__((target("avx512f,vpclmulqdq"))) static __m512i moved(__m512i words, __m512i factors, __m512i onto) {
        const __m512i early = _mm512_clmulepi64_epi128(words, factors, 0x00);
        const __m512i late = _mm512_clmulepi64_epi128(words, factors, 0x11);
        return _mm512_ternarylogic_epi64(early, late, onto, 0x96);  // the sum of the three
    }

    __attribute__((target("avx512f,vpclmulqdq,sse4.2"))) static std::uint32_t folded(const std::uint8_t* bytes,
                                                                                     std::size_t size) {
        constexpr std::int64_t far[2] = {first(kStep), last(kStep)}, near[2] = {first(kWide), last(kWide)};
        const __m512i by_step = _mm512_set_epi64(far[1], far[0], far[1], far[0], far[1], far[0], far[1], far[0]);
        const __m512i by_wide = _mm512_set_epi64(near[1], near[0], near[1], near[0], near[1], near[0], near[1], near[0]);
        __m512i sums[4];
        for (std::size_t i = 0; i < 4; ++i) sums[i] = loaded(bytes + i * kWide);
        sums[0] = _mm512_xor_si512(sums[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128(-1)));  // a checksum begins with ones
        for (bytes += kStep, size -= kStep; size >= kStep; bytes += kStep, size -= kStep) {
            for (std::size_t i = 0; i < 4; ++i) sums[i] = moved(sums[i], by_step, loaded(bytes + i * kWide));
        }
        for (std::size_t i = 1; i < 4; ++i) sums[i] = moved(sums[i - 1], by_wide, sums[i]);
        for (; size >= kWide; bytes += kWide, size -= kWide) sums[3] = moved(sums[3], by_wide, loaded(bytes));
        std::uint8_t rest[kWide];
        _mm512_storeu_si512(rest, sums[3]);
        return direct(direct(0, rest, kWide), bytes, size);
    }
};

#else

// Without the instructions a checksum would cost more than is saved by it: other ways are taken.
class Crc32c {
   public:
    static bool is_supported() { return false; }
    static std::uint32_t of(const std::uint8_t*, std::size_t) { return 0; }
};

#endif

}  // namespace ssl_data
