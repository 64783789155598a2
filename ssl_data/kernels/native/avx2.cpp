// AVX2 (Intel from Haswell, AMD from Zen on).
//
// vpmaddwd multiplies 16 pairs of int16 and adds neighbours to 8 int32: exact, since a product is at most 128 * 255.
// Lane i is search column i; a step is 2 bytes of a window row (27 bytes for a 9-wide window, so 14 steps), widened to
// int16 as they are gathered: one vpshufb both spreads bytes 3i, 3i + 1 over lane i and fills the upper halves with
// zeros. (vpmaddubsw would take twice the bytes, but saturates.)
//
// The 16 registers hold 13 rows of sums, the gathered pairs and a product. The weights stay in memory, broadcast.
#if defined(__x86_64__)

#include <immintrin.h>

#include "problem.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include "backend.h"

namespace ssl_data {
namespace {

struct Avx2 {
    static constexpr int kLanes = 8;
    typedef float Float __attribute__((vector_size(32)));
    typedef std::int32_t Int __attribute__((vector_size(32)));
    typedef std::uint8_t Code __attribute__((vector_size(8)));
    using Bytes = __m256i;
    using Vec = __m256i;
    using Weight = __m256i;
    using LoadedWeight = const Weight*;  // stays in memory
    using Lane = std::uint32_t;
    using Pattern = __m256i;  // vpshufb indices; -1 gives zero
    using Element = std::uint8_t;
    static constexpr bool kInterleaved = true;
    static constexpr bool kHasPairs = false;
    static constexpr bool kHasLookup = false;
    static constexpr bool kHasBackground = false;
    static constexpr bool kHasBytes = false;
    static constexpr int kPixelElements = 3;
    static constexpr int kStepElements = 2;
    static constexpr int kExactProducts = 65536;

    static Vec zero() { return _mm256_setzero_si256(); }
    static Int to_int(Vec sum) { return reinterpret_cast<Int>(sum); }

    static Pattern pattern(int offset, int begin, int end) {
        std::int8_t indices[32];
        for (int i = 0; i < 32; ++i) {
            const int element = offset + 3 * (i / 4) + i % 4 / 2;
            const int index = 3 * (i % 16 / 4) + i % 4 / 2;
            indices[i] = static_cast<std::int8_t>(i % 2 == 0 && element >= begin && element < end ? index : -1);
        }
        return load_vector<Pattern>(indices);
    }

    static Vec gather(const std::uint8_t* row, Pattern pattern) {
        const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row));
        const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 12));
        return _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1), pattern);
    }

    static Vec load_lanes(const Lane* lanes) { return load_vector<Vec>(lanes); }
    static LoadedWeight load_weight(const Weight* weight) { return weight; }
    static Vec multiply_add(Vec sum, Vec data, LoadedWeight weight) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(data, *weight));
    }

    static Lane lane(const std::uint8_t* bytes, int count) {
        return bytes[0] | (count > 1 ? std::uint32_t{bytes[1]} << 16 : 0);
    }

    static Weight weight(const std::uint8_t* bytes, int count) {
        const int first = bytes[0] - 128;
        const int second = count > 1 ? bytes[1] - 128 : 0;
        return _mm256_set1_epi32((first & 0xffff) | second * 0x10000);
    }

    static void store(std::int32_t* cross, Vec sum, int columns, bool add) {
        if (add) sum = _mm256_add_epi32(sum, load_vector<Vec>(cross));
        store_lanes<Avx2>(cross, sum, columns);
    }

    static Float round(Float value) {
        return _mm256_round_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    }
    static Float scale(Float value, Float exponent) { return scale_by_adding<Avx2>(value, exponent); }
    static Float maximum(Float a, Float b) { return _mm256_max_ps(a, b); }
    static Code low_bytes(Int values) {
        const __m256i first_bytes = _mm256_set1_epi32(0x0c080400);  // of each half, four times
        const __m256i bytes = _mm256_shuffle_epi8(reinterpret_cast<Vec>(values), first_bytes);
        const __m128i both = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
        return reinterpret_cast<Code>(_mm_cvtsi128_si64(both));
    }
    static bool any_zero(Int values) {
        const Vec zeros = _mm256_cmpeq_epi32(reinterpret_cast<Vec>(values), _mm256_setzero_si256());
        return _mm256_movemask_epi8(zeros) != 0;
    }
};

bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

const Backend kAvx2 = {"native-avx2", supported, false, workspace_bytes<Avx2>, run<Avx2>, encode<Avx2>};

}  // namespace ssl_data

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__
