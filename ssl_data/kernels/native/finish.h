// The last stage: from sums of squared differences to what is returned. Plain vector arithmetic (the vector extension
// of GCC and Clang), compiled for each instruction set. Isa adds:
//
//     Int, Float, Code   vectors of kLanes int32, float and uint8
//     maximum(a, b), any_zero(values), low_bytes(values)
//     kHasLookup, and then lookup(table, indices): table[index % 16] in each lane; else round(value), scale(value, exp)
//
// Codes must be exact, see quantize.py. Looking every ssd up in the table would cost more than the ssd itself, so
// 255 * 2^t is computed in float32, wrong by less than 2e-4 wherever it exceeds 0.4: the rounding of t, |t| <= 9.3,
// contributes 255 * 2^t |t| * 2^-22 * ln 2 < 3e-5, the polynomials 1.1e-4, their evaluation 5e-5. Adding 256.5 makes a
// number whose bits are the code and 15 places behind the point. It is right unless these places are all zeros or ones,
// a tie before the addition, and only those few are looked up.
//
// A vector of values passes through stages. With registers enough, these are computed between the products of the next
// pixel (blocks.h), which leave the units for addition and permutation idle; else when the pixel is complete.
#pragma once

#include "tools.h"

namespace ssl_data {

// Adding 1.5 * 2^23 to a float of magnitude below 2^22 rounds it to an integer, which is then found in the low bits.
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

// Stores the first `count` lanes.
template <class Isa, class Vector, class T>
SSG_INLINE void store_lanes(T* to, const Vector& vector, std::ptrdiff_t count) {
    if (count >= Isa::kLanes) {
        store_vector(to, vector);
    } else {
        std::memcpy(to, &vector, static_cast<std::size_t>(count) * sizeof(T));
    }
}

// factor * 2^(ssd * scale) for scale <= 0: factor is 255 (and scale halved) for codes, else 1.
template <class Isa>
class Exponential {
    using Int = typename Isa::Int;
    using Float = typename Isa::Float;

   public:
    explicit Exponential(const Problem& problem)
        : factor_(problem.output == Output::kCodes ? 255.0F : 1.0F), scale_(kSteps * problem.exponent_scale),
          lowest_(kSteps * (problem.output == Output::kCodes ? -32.0F : -126.0F)) {
        constexpr float minimax[] = {1.00000012F,   0.693146944F,   0.240221202F,
                                     0.0555071309F, 0.00967554096F, 0.00132764725F};
        for (int i = 0; i < 6; ++i) minimax_[i] = factor_ * minimax[i];
        for (int i = 0; i < 16; ++i) {
            const auto power = static_cast<float>(factor_ * __builtin_exp2(i / 16.0));
            std::memcpy(powers_ + i, &power, sizeof power);
            powers_[i] -= i << 19;
        }
        // 2^(r/16) - 1 is about r (a + b r) for |r| <= 1/2; a little more than its derivative, a makes up for most of
        // the cubic term.
        constexpr float unit = 0.693147181F / 16;
        slopes_[0] = unit * (1 + unit * unit / 32);
        slopes_[1] = unit * unit / 2;
    }

    // A value in the making. To be computed between other things, the computation is cut into stages, none of which has
    // to wait for more than the one before it: whatever waits takes up room that the processor needs to look ahead.
    struct Value {
        Float t, power, slope;
        Int bits;
    };

    static constexpr int kStages = 6;

    template <int kStage>
    SSG_INLINE void stage(Value& v) const {
        if constexpr (Isa::kHasLookup) {
            // 2^(t/16) = 2^(n/16) 2^(r/16), n an integer. The lowest four bits of n choose 2^(i/16); the bits above
            // them are the exponent, which is added to the bits of that float.
            if constexpr (kStage == 0) v.t = __builtin_convertvector(v.bits, Float) * scale_;
            if constexpr (kStage == 1) {
                v.t = Isa::maximum(v.t, lowest_ - Float{});
                v.slope = v.t + rounder_;
            }
            if constexpr (kStage == 2) {
                v.bits = (Int)v.slope;
                v.power = (Float)Isa::lookup(powers_, v.bits);
                v.t -= v.slope - rounder_;
                v.bits = v.bits << 19;
            }
            if constexpr (kStage == 3) {
                v.power = (Float)((Int)v.power + v.bits);
                v.slope = v.t * slopes_[1] + slopes_[0];
            }
            if constexpr (kStage == 4) v.t = v.power * v.t;
            if constexpr (kStage == 5) v.t = v.t * v.slope + v.power;
        } else if constexpr (kStage == kStages - 1) {
            v.t = by_polynomial(Isa::maximum(__builtin_convertvector(v.bits, Float) * scale_, lowest_ - Float{}));
        }
    }

    SSG_INLINE Float operator()(Int ssd) const {
        Value value = {};
        value.bits = ssd;
        unroll<kStages>([&](auto i) SSG_LAMBDA { stage<decltype(i)::value>(value); });
        return value.t;
    }

   private:
    static constexpr float kSteps = Isa::kHasLookup ? 16.0F : 1.0F;  // per power of two

    // Minimax on [-1/2, 1/2], in an order in which few operations wait for one another.
    SSG_INLINE Float by_polynomial(Float t) const {
        const Float whole = Isa::round(t);
        const Float f = t - whole;
        const Float square = f * f;
        const Float low = f * minimax_[1] + minimax_[0];
        const Float middle = f * minimax_[3] + minimax_[2];
        const Float high = f * minimax_[5] + minimax_[4];
        return Isa::scale((high * square + middle) * square + low, whole);
    }

    const float factor_;
    const float scale_;
    const float lowest_;
    const float rounder_ = kRounder;  // in memory rather than in a register
    float minimax_[6];
    float slopes_[2];
    alignas(64) std::int32_t powers_[16];  // factor * 2^(i/16), less the i that the exponent brings along
};

// From 255 * 2^t to a code, in stages that follow those of Exponential.
template <class Isa>
class Rounding {
    using Int = typename Isa::Int;
    using Float = typename Isa::Float;

   public:
    // Bits of a number, 8 of which are the code.
    SSG_INLINE Int bits(Float value) const { return (Int)(value + offset_); }
    SSG_INLINE typename Isa::Code code(Int bits) const { return Isa::low_bytes(bits >> kPlaces); }
    // Whether a lane is suspected of a tie.
    SSG_INLINE bool near_tie(Int bits) const { return Isa::any_zero(bits & near_); }

   private:
    static constexpr int kPlaces = 15;
    static constexpr int kNear = 16;  // within +-8 * 2^-15
    const float offset_ = 256.5F + 0.5F * kNear / (1 << kPlaces);
    const std::int32_t near_ = (1 << kPlaces) - kNear;
};

template <class Isa>
void look_up(const CodeTable& table, const std::int32_t* ssd, std::uint8_t* codes) {
    for (int lane = 0; lane < Isa::kLanes; ++lane) codes[lane] = table.code(ssd[lane]);
}

// Writes the row of the result of one pixel, kLanes values ("a vector") at a time.
template <class Isa>
class Finish {
    using Int = typename Isa::Int;
    using Float = typename Isa::Float;
    using Value = typename Exponential<Isa>::Value;
    static constexpr int kLanes = Isa::kLanes;
    static constexpr int kExponential = Exponential<Isa>::kStages;

   public:
    // Values that cross and energy hold, and that a scratch row has room for.
    static std::ptrdiff_t padded(std::ptrdiff_t count) { return (count + 2 * kLanes + 15) / 16 * 16; }

    Finish(const Problem& problem, Arena& arena)
        : problem_(problem), exponential_(problem), count_(problem.geometry.num_positions()) {
        const auto size = static_cast<std::size_t>(padded(count_));
        similarity_ = arena.take<float>(size);
        row_codes_ = scratch_codes_ = arena.take<std::uint8_t>(size);
        suspects_ = arena.take<std::int32_t>(size / kLanes + 1);
        cross_ = energy_ = scratch_ssd_ = arena.take<std::int32_t>(size);
        if (arena.base != nullptr) std::memset(scratch_ssd_, 0, size * sizeof *scratch_ssd_);
    }

    // Begins with a pixel. cross and energy hold count values, then kLanes zeros; both stay as they are until the pixel
    // is complete.
    void begin(const std::int32_t* cross, const std::int32_t* energy, int square, std::ptrdiff_t row) {
        cross_ = cross;
        energy_ = energy;
        square_ = square;
        row_ = row;
        next_ = 0;
        num_suspects_ = 0;
        sums_ = Float{};
        // The last vector is moved to end with the row, which a short row cannot have.
        row_codes_ = count_ < kLanes ? scratch_codes_ : result_row<std::uint8_t>();
    }

    static constexpr int kStages = kExponential + 3;

    // One vector is computed by calling all stages in turn.
    template <Output kOutput, int kStage>
    SSG_INLINE void stage(Value& value) {
        static_assert(kOutput != Output::kSsd, "has no stages");
        if constexpr (kStage == 0) {
            const std::ptrdiff_t limit = kOutput == Output::kCodes ? (count_ < kLanes ? 0 : count_ - kLanes) : count_;
            at_ = next_ < limit ? next_ : limit;  // there may be more calls than vectors: the last is repeated
            fresh_ = next_ < count_;
            next_ += kLanes;
            value.bits = ssd(at_);
        } else if constexpr (kStage <= kExponential) {
            exponential_.template stage<kStage - 1>(value);
        } else if constexpr (kOutput == Output::kCodes) {
            if constexpr (kStage == kExponential + 1) value.bits = rounding_.bits(value.t);
            if constexpr (kStage == kExponential + 2) {
                suspects_[num_suspects_] = static_cast<std::int32_t>(at_);
                num_suspects_ += rounding_.near_tie(value.bits) & fresh_;
                store_vector(row_codes_ + at_, rounding_.code(value.bits));
            }
        } else if constexpr (kStage == kExponential + 1) {
            store_vector(similarity_ + at_, value.t);
            if (at_ + kLanes <= count_) sums_ += value.t;
        }
    }

    // Finishes what is left.
    void complete() {
        switch (problem_.output) {
            case Output::kSsd:
                return copy();
            case Output::kCodes:
                compute<Output::kCodes>();
                return settle_codes();
            case Output::kNormalized:
                compute<Output::kNormalized>();
                return normalize();
        }
    }

   private:
    SSG_INLINE Int ssd(std::ptrdiff_t first) const {
        const Int cross = load_vector<Int>(cross_ + first);
        return load_vector<Int>(energy_ + first) + square_ - (cross + cross);
    }

    template <Output kOutput>
    void compute() {
        if (next_ >= count_) return;
        Finish local = *this;  // elsewhere, for all that a compiler knows, its members might change with every code
        while (local.next_ < local.count_) {
            Value value;
            unroll<kStages>([&](auto i) SSG_LAMBDA { local.template stage<kOutput, decltype(i)::value>(value); });
        }
        next_ = local.next_;
        num_suspects_ = local.num_suspects_;
        sums_ = local.sums_;
    }

    template <class T>
    T* result_row() const {
        return static_cast<T*>(problem_.result) + row_ * count_;
    }

    void copy() {
        std::int32_t* const row = result_row<std::int32_t>();
        for (; next_ < count_; next_ += kLanes) store_lanes<Isa>(row + next_, ssd(next_), count_ - next_);
    }

    void settle_codes() {
        for (int i = 0; i < num_suspects_; ++i) {
            std::int32_t values[kLanes];
            store_vector(values, ssd(suspects_[i]));
            look_up<Isa>(problem_.table, values, row_codes_ + suspects_[i]);
        }
        num_suspects_ = 0;
        if (row_ >= 0 && count_ < kLanes) {
            std::memcpy(result_row<std::uint8_t>(), row_codes_, static_cast<std::size_t>(count_));
        }
    }

    void normalize() {
        if (row_ < 0) return;
        float sum = 1e-10F;
        for (int lane = 0; lane < kLanes; ++lane) sum += sums_[lane];
        for (std::ptrdiff_t i = count_ - count_ % kLanes; i < count_; ++i) sum += similarity_[i];
        const float factor = 1.0F / sum;
        float* const row = result_row<float>();
        for (std::ptrdiff_t i = 0; i < count_; i += kLanes) {
            store_lanes<Isa>(row + i, load_vector<Float>(similarity_ + i) * factor, count_ - i);
        }
    }

    const Problem& problem_;
    const Exponential<Isa> exponential_;
    const Rounding<Isa> rounding_;
    const std::ptrdiff_t count_;
    float* similarity_;
    std::uint8_t* scratch_codes_;
    std::int32_t* scratch_ssd_;
    // Of the pixel at hand; at first there is none, and what is computed goes to scratch memory.
    std::int32_t* suspects_;  // vectors with a lane near a tie
    int num_suspects_ = 0;
    std::uint8_t* row_codes_;
    const std::int32_t* cross_;
    const std::int32_t* energy_;
    int square_ = 0;
    std::ptrdiff_t row_ = -1;
    std::ptrdiff_t next_ = PTRDIFF_MAX / 2;  // first value of the next vector
    std::ptrdiff_t at_ = 0;
    bool fresh_ = false;
    Float sums_ = {};
};

}  // namespace ssl_data
