// Plain vector arithmetic: for every processor that GCC or Clang compile for.
//
// The search area is stored as three planes, in which the lanes of a register lie side by side.
//
// On x86-64, elements are int16 and a step is two columns of one plane: pmaddwd, which every such processor has,
// multiplies 4 pairs and adds neighbours to 4 int32. Neighbours are brought together by interleaving two loads.
//
// Elsewhere sums are float32, since multiplication and addition of floats are fast wherever there are vectors at all.
// They are exact: a product |I - 128| * Q is an integer of at most 128 * 255, and 514 of those stay below 2^24.
#if defined(__SSE2__) && !defined(SSG_FLOATS)
#include <emmintrin.h>
#define SSG_PAIRS
#endif

#include "backend.h"

namespace ssl_data {
namespace {

struct Portable {
    static constexpr int kLanes = 4;
    typedef float Float __attribute__((vector_size(16)));
    typedef std::int32_t Int __attribute__((vector_size(16)));
    typedef std::uint8_t Code __attribute__((vector_size(4)));
    using Pattern = char;  // nothing to blank out: the area is a copy
    static constexpr bool kInterleaved = false;
    static constexpr bool kHasPairs = false;
    static constexpr bool kHasLookup = false;
    static constexpr bool kHasBackground = false;
    static constexpr bool kHasBytes = false;
    static constexpr int kPixelElements = 1;

    static Pattern pattern(int /*offset*/, int /*begin*/, int /*end*/) { return 0; }

#if defined(SSG_PAIRS)
    using Vec = __m128i;
    using Weight = __m128i;
    using LoadedWeight = const Weight*;  // stays in memory
    using Lane = std::uint32_t;
    using Element = std::int16_t;
    static constexpr int kStepElements = 2;
    static constexpr int kExactProducts = 65536;
    static constexpr int kWidened = 8;

    static Vec zero() { return _mm_setzero_si128(); }
    static Int to_int(Vec sum) { return reinterpret_cast<Int>(sum); }

    static Vec gather(const std::int16_t* row, Pattern /*pattern*/) {
        const __m128i left = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row));
        const __m128i right = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + 1));
        return _mm_unpacklo_epi16(left, right);
    }

    static Vec multiply_add(Vec sum, Vec data, LoadedWeight weight) {
        return _mm_add_epi32(sum, _mm_madd_epi16(data, *weight));
    }

    static Lane lane(const std::int16_t* elements, int /*count*/) { return load_vector<Lane>(elements); }

    static Weight weight(const std::uint8_t* bytes, int count) {
        const int first = bytes[0] - 128;
        const int second = count > 1 ? bytes[3] - 128 : 0;  // of the next pixel
        return _mm_set1_epi32((first & 0xffff) | second * 0x10000);
    }

    static Code low_bytes(Int values) {
        const __m128i words = _mm_and_si128(reinterpret_cast<__m128i>(values), _mm_set1_epi32(255));
        const __m128i bytes = _mm_packus_epi16(_mm_packs_epi32(words, words), words);
        return reinterpret_cast<Code>(_mm_cvtsi128_si32(bytes));
    }

    static void widen(const std::uint8_t* from, std::int16_t* to) {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_unpacklo_epi8(bytes, _mm_setzero_si128()));
    }
#else
    using Vec = Float;
    using Weight = Float;
    using LoadedWeight = const Weight*;  // stays in memory, broadcast: a plain operand of the multiplication
    using Lane = float;
    using Element = float;
    static constexpr int kStepElements = 1;
    static constexpr int kExactProducts = 514;
    static constexpr int kWidened = 4;

    static Vec zero() { return Vec{}; }
    static Int to_int(Vec sum) { return __builtin_convertvector(sum, Int); }
    static Vec gather(const float* row, Pattern /*pattern*/) { return load_vector<Vec>(row); }
    static Vec multiply_add(Vec sum, Vec data, LoadedWeight weight) { return sum + data * *weight; }
    static Lane lane(const float* element, int /*count*/) { return *element; }
    static Weight weight(const std::uint8_t* byte, int /*count*/) { return Weight{} + static_cast<float>(*byte - 128); }

    static Code low_bytes(Int values) { return __builtin_convertvector(values, Code); }

    static void widen(const std::uint8_t* from, float* to) {
        store_vector(to, __builtin_convertvector(load_vector<Code>(from), Float));
    }
#endif

    static Vec load_lanes(const Lane* lanes) { return load_vector<Vec>(lanes); }
    static LoadedWeight load_weight(const Weight* weight) { return weight; }

    static void store(std::int32_t* cross, Vec sum, int columns, bool add) {
        Int values = to_int(sum);
        if (add) values += load_vector<Int>(cross);
        store_lanes<Portable>(cross, values, columns);
    }

    static Float round(Float value) { return round_by_adding<Portable>(value); }
    static Float scale(Float value, Float exponent) { return scale_by_adding<Portable>(value, exponent); }
    static Float maximum(Float a, Float b) { return a > b ? a : b; }
    static bool any_zero(Int values) {
        const Int zeros = values == 0;
        return (zeros[0] | zeros[1] | zeros[2] | zeros[3]) != 0;
    }
};

bool supported() { return true; }

}  // namespace

const Backend kPortable = {
    "native-portable", supported, true, workspace_bytes<Portable>, run<Portable>, encode<Portable>};

}  // namespace ssl_data
