// Plain vector arithmetic: for every processor that GCC or Clang compile for.
//
// Sums are float32: multiplication and addition of floats are fast even on the oldest x86-64, which cannot multiply
// vectors of int32. They are exact: a product |I - 128| * Q is an integer of at most 128 * 255, and 514 of those stay
// below 2^24. The search area is stored as three planes of floats, and a step is one element of one plane.
#include "backend.h"

namespace ssg {
namespace {

struct Portable {
    static constexpr int kLanes = 4;
    typedef float Float __attribute__((vector_size(16)));
    typedef std::int32_t Int __attribute__((vector_size(16)));
    typedef std::uint8_t Code __attribute__((vector_size(4)));
    using Bytes = Int;
    using Vec = Float;
    using Weight = Float;
    using LoadedWeight = const Weight*;  // stays in memory, broadcast: a plain operand of the multiplication
    using Lane = float;
    using Pattern = char;  // nothing to blank out: the area is a copy
    using Element = float;
    static constexpr bool kInterleaved = false;
    static constexpr bool kHasPairs = false;
    static constexpr bool kHasSelect = false;
    static constexpr int kPixelElements = 1;
    static constexpr int kStepElements = 1;
    static constexpr int kExactProducts = 514;

    static Vec zero() { return Vec{}; }
    static Int to_int(Vec sum) { return __builtin_convertvector(sum, Int); }
    static Pattern pattern(int /*offset*/, int /*begin*/, int /*end*/) { return 0; }
    static Vec gather(const float* row, Pattern /*pattern*/) { return load_vector<Vec>(row); }
    static Vec load_lanes(const Lane* lanes) { return load_vector<Vec>(lanes); }
    static LoadedWeight load_weight(const Weight* weight) { return weight; }
    static Vec multiply_add(Vec sum, Vec data, LoadedWeight weight) { return sum + data * *weight; }
    static Lane lane(const float* element, int /*count*/) { return *element; }
    static Weight weight(const std::uint8_t* byte, int /*count*/) { return Weight{} + static_cast<float>(*byte - 128); }

    static void store(std::int32_t* cross, Vec sum, int columns, bool add) {
        Int values = to_int(sum);
        if (add) values += load_vector<Int>(cross);
        store_lanes<Portable>(cross, values, columns);
    }

    static Float round(Float value) {
        return round_by_adding<Portable>(value);
    }
    static Float scale(Float value, Float exponent) { return scale_by_adding<Portable>(value, exponent); }
    static Float maximum(Float a, Float b) { return a > b ? a : b; }
    static bool any_above(Float values, float limit) {
        const Int above = values > limit;
        return (above[0] | above[1] | above[2] | above[3]) != 0;
    }
};

bool supported() { return true; }

}  // namespace

const Backend kPortable = {"native-portable", supported, workspace_bytes<Portable>, run<Portable>, encode<Portable>};

}  // namespace ssg
