// AVX-512 with VNNI and VBMI (Intel from Ice Lake, AMD from Zen 4 on).
//
// vpdpbusd multiplies 64 unsigned by 64 signed bytes and adds them in fours to 16 int32, without saturation: 64
// products per instruction, exact. Lane i is search column i; a step is 4 bytes of a window row (27 bytes for a 9-wide
// window, so 7 steps), unsigned in the search area, signed (I - 128) in the window. Neighbouring lanes read overlapping
// bytes 3i .. 3i + 3 of an area row, which vpermb gathers from one unaligned load.
//
// The 32 registers hold 13 rows of sums, up to 15 weights (one step of all window rows), the gathered bytes and the
// vpermb indices: for the default window the inner loop loads nothing but area rows, one load for up to 9 vpdpbusd. The
// registers that are left belong to the last stage of the pixel before, which is computed between the products: these
// keep two of the four vector units busy, and it needs mostly the other two.
#if defined(__x86_64__)

#include <immintrin.h>

#include "problem.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")
#endif

#include "backend.h"

namespace ssl_data {
namespace {

struct Avx512 {
    static constexpr int kLanes = 16;
    typedef float Float __attribute__((vector_size(64)));
    typedef std::int32_t Int __attribute__((vector_size(64)));
    typedef std::uint8_t Code __attribute__((vector_size(16)));
    using Bytes = __m512i;
    using Vec = __m512i;
    using Weight = std::uint32_t;
    using LoadedWeight = __m512i;
    using Lane = std::uint32_t;
    using Pattern = __mmask64;
    using Element = std::uint8_t;
    static constexpr bool kInterleaved = true;
    static constexpr bool kHasPairs = true;
    static constexpr bool kHasLookup = true;
    static constexpr bool kHasBackground = true;
    static constexpr bool kHasBytes = true;
    static constexpr int kPixelElements = 3;
    static constexpr int kStepElements = 4;
    static constexpr int kExactProducts = 65536;

    static Vec zero() { return _mm512_setzero_si512(); }
    static Int to_int(Vec sum) { return reinterpret_cast<Int>(sum); }

    static Pattern pattern(int offset, int begin, int end) {
        Pattern pattern = 0;
        for (int byte = 0; byte < 64; ++byte) {
            const int element = offset + 3 * (byte / 4) + byte % 4;
            pattern |= Pattern{element >= begin && element < end} << byte;
        }
        return pattern;
    }

    static Pattern pair_pattern(int offset, int begin, int end) {
        const Pattern half = pattern(offset, begin, end) & 0xffffffffU;
        return half | half << 32;
    }

    static Vec gather(const std::uint8_t* row, Pattern pattern) {
        const Vec indices = _mm512_set_epi32(0x302f2e2d, 0x2d2c2b2a, 0x2a292827, 0x27262524, 0x24232221, 0x21201f1e,
                                             0x1e1d1c1b, 0x1b1a1918, 0x18171615, 0x15141312, 0x1211100f, 0x0f0e0d0c,
                                             0x0c0b0a09, 0x09080706, 0x06050403, 0x03020100);
        return _mm512_maskz_permutexvar_epi8(pattern, indices, _mm512_loadu_si512(row));
    }

    // Lanes 0-7 from the upper row, lanes 8-15 from the lower one.
    static Vec gather_pair(const std::uint8_t* upper, const std::uint8_t* lower, Pattern pattern) {
        const Vec indices = _mm512_set_epi32(0x38373635, 0x35343332, 0x3231302f, 0x2f2e2d2c, 0x2c2b2a29, 0x29282726,
                                             0x26252423, 0x23222120, 0x18171615, 0x15141312, 0x1211100f, 0x0f0e0d0c,
                                             0x0c0b0a09, 0x09080706, 0x06050403, 0x03020100);
        Vec rows = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(upper)));
        // As assembly, since compilers see that the lower row is the upper one of the next pair, and rather than load
        // it twice keep it in a register they do not have.
        asm("vinserti64x4 $1, %1, %0, %0" : "+v"(rows) : "m"(*reinterpret_cast<const __m256i_u*>(lower)));
        return _mm512_maskz_permutexvar_epi8(pattern, indices, rows);
    }

    static Vec load_lanes(const Lane* lanes) { return _mm512_loadu_si512(lanes); }
    static LoadedWeight load_weight(const Weight* weight) { return _mm512_set1_epi32(static_cast<int>(*weight)); }
    static Vec multiply_add(Vec sum, Vec data, LoadedWeight weight) { return _mm512_dpbusd_epi32(sum, data, weight); }

    static Lane lane(const std::uint8_t* bytes, int count) {
        Lane lane;
        std::memcpy(&lane, bytes, sizeof lane);
        return lane & (0xffffffffU >> (32 - 8 * count));
    }

    static Weight weight(const std::uint8_t* bytes, int count) {
        Weight weight;
        std::memcpy(&weight, bytes, sizeof weight);
        return (weight ^ 0x80808080U) & (0xffffffffU >> (32 - 8 * count));
    }

    // The weights of a whole row of `count` window bytes; some behind them are overwritten.
    static void weights(const std::uint8_t* bytes, int count, Weight* weights) {
        for (int first = 0; first < count; first += 32) {
            const std::uint32_t inside = count - first < 32 ? (1U << (count - first)) - 1 : 0xffffffffU;
            const __m256i loaded = _mm256_maskz_loadu_epi8(inside, bytes + first);
            const __m256i moved = _mm256_mask_xor_epi32(loaded, 0xff, loaded, _mm256_set1_epi8(-128));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights + first / 4), _mm256_maskz_mov_epi8(inside, moved));
        }
    }

    // Of four rows of four steps, `count` bytes of which count, four columns.
    static void transpose(const std::uint8_t* from, std::ptrdiff_t pitch, int count, Lane* to,
                          std::ptrdiff_t to_pitch) {
        const auto inside = static_cast<__mmask16>(count < 16 ? (1 << count) - 1 : 0xffff);
        __m128i rows[4];
        for (int i = 0; i < 4; ++i) rows[i] = _mm_maskz_loadu_epi8(inside, from + i * pitch);
        const __m128i low_even = _mm_unpacklo_epi32(rows[0], rows[2]);
        const __m128i high_even = _mm_unpackhi_epi32(rows[0], rows[2]);
        const __m128i low_odd = _mm_unpacklo_epi32(rows[1], rows[3]);
        const __m128i high_odd = _mm_unpackhi_epi32(rows[1], rows[3]);
        const __m128i columns[4] = {_mm_unpacklo_epi32(low_even, low_odd), _mm_unpackhi_epi32(low_even, low_odd),
                                    _mm_unpacklo_epi32(high_even, high_odd), _mm_unpackhi_epi32(high_even, high_odd)};
        for (int i = 0; i < 4; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * to_pitch), columns[i]);
    }

    // Stores under a mask are slow, and seldom needed.
    static void store(std::int32_t* cross, Vec sum, int columns, bool add) {
        if (add) sum = _mm512_add_epi32(sum, _mm512_loadu_si512(cross));
        if (columns == 16) {
            _mm512_storeu_si512(cross, sum);
        } else {
            _mm512_mask_storeu_epi32(cross, static_cast<__mmask16>(0xffffU >> (16 - columns)), sum);
        }
    }

    static void store_pair(std::int32_t* cross, std::int32_t* next, Vec sum, int columns, bool add) {
        store_half(cross, _mm512_castsi512_si256(sum), columns, add);
        if (next != nullptr) store_half(next, _mm512_extracti64x4_epi64(sum, 1), columns, add);
    }

    static void store_half(std::int32_t* cross, __m256i sum, int columns, bool add) {
        __m256i* to = reinterpret_cast<__m256i*>(cross);
        if (add) sum = _mm256_add_epi32(sum, _mm256_loadu_si256(to));
        if (columns == 8) {
            _mm256_storeu_si256(to, sum);
        } else {
            _mm256_mask_storeu_epi32(cross, static_cast<__mmask8>(0xffU >> (8 - columns)), sum);
        }
    }

    static Int permute(Int values, Int indices) {
        return reinterpret_cast<Int>(
            _mm512_permutexvar_epi32(reinterpret_cast<Vec>(indices), reinterpret_cast<Vec>(values)));
    }
    static Int lookup(const std::int32_t* table, Int indices) { return permute(load_vector<Int>(table), indices); }

    // As assembly, since compilers would store the result with the same instruction, which takes much longer.
    static Code low_bytes(Int values) {
        Code bytes;
        asm("vpmovdb %1, %0" : "=v"(bytes) : "v"(values));
        return bytes;
    }

    static Float maximum(Float a, Float b) { return _mm512_max_ps(a, b); }
    static bool any_zero(Int values) {
        return _mm512_testn_epi32_mask(reinterpret_cast<Vec>(values), reinterpret_cast<Vec>(values)) != 0;
    }
};

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}

}  // namespace

const Backend kAvx512 = {"native-avx512", supported, false, workspace_bytes<Avx512>, run<Avx512>, encode<Avx512>};

}  // namespace ssl_data

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__
