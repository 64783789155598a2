// The last stage: from sums of squared differences to what is returned. Plain vector arithmetic (the vector extension
// of GCC and Clang), compiled for each instruction set. Isa adds:
//
//     Int, Float, Code   vectors of kLanes int32, float and uint8
//     maximum(a, b), any_above(values, limit), round(value), scale(value, exponent)
//
// Codes must be exact, see quantize.py. Looking every ssd up in the table would cost more than the ssd itself, so
// 255 * 2^t is computed in float32, wrong by less than 1e-4 wherever it exceeds 0.4: the rounding of t, |t| <= 9.3,
// contributes 255 * 2^t |t| * 2^-22 * ln 2 < 3e-5, the polynomial and its evaluation 255 * 2e-7. Rounding to an integer
// is then right unless the value lies next to a tie, and only those few are looked up.
#pragma once

#include "tools.h"

namespace ssg {

constexpr float kTieMargin = 1.5e-4F;

// Stores the first `count` lanes.
template <class Isa, class Vector, class T>
SSG_INLINE void store_lanes(T* to, const Vector& vector, std::ptrdiff_t count) {
    if (count >= Isa::kLanes) {
        store_vector(to, vector);
    } else {
        std::memcpy(to, &vector, static_cast<std::size_t>(count) * sizeof(T));
    }
}

// Adding 1.5 * 2^23 to a float of magnitude below 2^22 rounds it to an integer, which is then found in the low bits.
// For instruction sets without a better way:
constexpr float kRounder = 12582912.0F;

template <class Isa>
SSG_INLINE typename Isa::Float round_by_adding(typename Isa::Float value) {
    return (value + kRounder) - kRounder;
}

// value * 2^exponent, for integers -126 <= exponent <= 0 and a value near 1
template <class Isa>
SSG_INLINE typename Isa::Float scale_by_adding(typename Isa::Float value, typename Isa::Float exponent) {
    using Int = typename Isa::Int;
    return (typename Isa::Float)((Int)value + ((Int)(exponent + kRounder) << 23));
}

// kFactor * 2^t for t <= 0, relative error below 2e-7; negligibly small where t < -126.
template <class Isa, int kFactor>
SSG_INLINE typename Isa::Float exp2_negative(typename Isa::Float t) {
    using Float = typename Isa::Float;
    t = Isa::maximum(t, Float{} - 126.0F);
    const Float whole = Isa::round(t);
    const Float f = t - whole;
    const Float square = f * f;
    // Minimax on [-1/2, 1/2], in an order in which few operations wait for one another.
    const Float low = f * (kFactor * 0.693146944F) + (kFactor * 1.00000012F);
    const Float middle = f * (kFactor * 0.0555071309F) + (kFactor * 0.240221202F);
    const Float high = f * (kFactor * 0.00132764725F) + (kFactor * 0.00967554096F);
    return Isa::scale((high * square + middle) * square + low, whole);
}

template <class Isa>
SSG_INLINE typename Isa::Code encode_lanes(const Problem& problem, typename Isa::Int ssd) {
    using Int = typename Isa::Int;
    using Float = typename Isa::Float;
    const Float value = exp2_negative<Isa, 255>(__builtin_convertvector(ssd, Float) * problem.exponent_scale);
    const Float rounded = Isa::round(value);
    const Float rest = value - rounded;
    Int codes = __builtin_convertvector(rounded, Int);
    if (__builtin_expect(Isa::any_above(Isa::maximum(rest, -rest), 0.5F - kTieMargin), 0)) {
        for (int lane = 0; lane < Isa::kLanes; ++lane) codes[lane] = problem.table.code(ssd[lane]);
    }
    return __builtin_convertvector(codes, typename Isa::Code);
}

// Writes the results of one pixel; ssd(first) gives kLanes of its sums of squared differences.
template <class Isa, class Ssd>
SSG_INLINE void finish_ssd(std::ptrdiff_t count, std::int32_t* result, Ssd&& ssd) {
    for (std::ptrdiff_t first = 0; first < count; first += Isa::kLanes) {
        store_lanes<Isa>(result + first, ssd(first), count - first);
    }
}

template <class Isa, class Ssd>
SSG_INLINE void finish_codes(const Problem& problem, std::ptrdiff_t count, std::uint8_t* result, Ssd&& ssd) {
    for (std::ptrdiff_t first = 0; first < count; first += Isa::kLanes) {
        store_lanes<Isa>(result + first, encode_lanes<Isa>(problem, ssd(first)), count - first);
    }
}

// `similarity` holds at least count values, rounded up to whole vectors.
template <class Isa, class Ssd>
SSG_INLINE void finish_normalized(const Problem& problem, std::ptrdiff_t count, float* result, float* similarity,
                                  Ssd&& ssd) {
    using Float = typename Isa::Float;
    for (std::ptrdiff_t first = 0; first < count; first += Isa::kLanes) {
        const Float exponent = __builtin_convertvector(ssd(first), Float) * problem.exponent_scale;
        store_vector(similarity + first, exp2_negative<Isa, 1>(exponent));
    }
    for (std::ptrdiff_t beyond = count; beyond % Isa::kLanes != 0; ++beyond) similarity[beyond] = 0.0F;
    Float sums = {};
    for (std::ptrdiff_t first = 0; first < count; first += Isa::kLanes) sums += load_vector<Float>(similarity + first);
    float sum = 1e-10F;
    for (int lane = 0; lane < Isa::kLanes; ++lane) sum += sums[lane];
    const float factor = 1.0F / sum;
    for (std::ptrdiff_t first = 0; first < count; first += Isa::kLanes) {
        const Float scaled = load_vector<Float>(similarity + first) * factor;
        store_lanes<Isa>(result + first, scaled, count - first);
    }
}

}  // namespace ssg
