// The energies of all search positions of a pixel: box sums of Q^2 - 256 Q, taken from the integral image.
//
// Isa adds: kHasLookup, and then permute(values, indices), lane i of which is values[indices[i]].
#pragma once

#include "tools.h"

namespace ssl_data {

template <class Isa>
class Energy {
    using Int = typename Isa::Int;
    static constexpr int kLanes = Isa::kLanes;

   public:
    Energy(const Geometry& geometry, Arena& arena)
        : side_(geometry.positions()), stride_(geometry.stride), size_(geometry.window_size),
          first_(geometry.zero_outside ? geometry.window_radius() : 0), last_(geometry.area_size() - first_),
          prefix_pitch_(geometry.area_size() + 1 + 2 * kLanes) {
        prefix_ = arena.take<std::int32_t>(static_cast<std::size_t>(prefix_pitch_ * side_));
        clipped_ = first_ > 0;
        // Of two registers of boxes, the first is clipped at its left end only, the second at its right end only.
        const bool two_registers = side_ >= kLanes + first_ && side_ < 2 * kLanes;
        by_rows_ = stride_ == 1 && (!clipped_ || (Isa::kHasLookup && two_registers));
        for (int x = 0; x < kLanes; ++x) {
            left_ends_[x] = clamped(x);
            right_ends_[x] = clamped(kLanes + x + size_) - kLanes;
        }
    }

    // Begins with a pixel, the area of which starts at row top, column left of the image. energy[s * side + i] are its
    // energies; the elements behind them, up to kLanes, are overwritten.
    void begin(const Image& image, int top, int left, std::int32_t* energy) {
        corner_ = image.energy + top * image.energy_pitch + left + first_;
        pitch_ = image.energy_pitch;
        energy_ = energy;
        row_ = 0;
    }

    // The energies are loads and stores, the products are multiplications: a few energies at a time, computed between
    // the products, cost next to nothing.
    SSG_INLINE void advance() {
        if (by_rows_ && row_ < side_) next_row();
    }

    // Computes what advance has left.
    void complete() {
        while (by_rows_ && row_ < side_) next_row();
        if (by_rows_) return;
        fill_prefixes();
        subtract_prefixes();
    }

   private:
    // Clipping a box to the search area is clamping its corners.
    int clamped(int x) const { return (x < first_ ? first_ : x > last_ ? last_ : x) - first_; }

    // The rows of the integral image that bound the boxes of search row s.
    SSG_INLINE const std::uint32_t* above(int s) const {
        const int y = s * stride_;
        return corner_ + (y > first_ ? y : first_) * pitch_;
    }

    SSG_INLINE const std::uint32_t* below(int s) const {
        const int y = s * stride_ + size_;
        return corner_ + (y < last_ ? y : last_) * pitch_;
    }

    SSG_INLINE void next_row() {
        const std::uint32_t* upper = above(row_);
        const std::uint32_t* lower = below(row_);
        std::int32_t* energy = energy_ + row_ * side_;
        ++row_;
        if constexpr (Isa::kHasLookup) {
            if (clipped_) return clip_boxes(upper, lower, energy);
        }
        for (int x = 0; x < side_; x += kLanes) {
            const Int left = load_vector<Int>(lower + x) - load_vector<Int>(upper + x);
            const Int right = load_vector<Int>(lower + x + size_) - load_vector<Int>(upper + x + size_);
            store_vector(energy + x, right - left);
        }
    }

    // Where all prefix sums of a search row fit into two registers: ends of clipped boxes are looked up in these.
    SSG_INLINE void clip_boxes(const std::uint32_t* upper, const std::uint32_t* lower, std::int32_t* energy) const {
        const auto prefix = [&](int x) SSG_LAMBDA { return load_vector<Int>(lower + x) - load_vector<Int>(upper + x); };
        const Int left = Isa::permute(prefix(0), load_vector<Int>(left_ends_));
        const Int right = Isa::permute(prefix(kLanes), load_vector<Int>(right_ends_));
        store_vector(energy, prefix(size_ - first_) - left);
        store_vector(energy + kLanes, right - prefix(kLanes - first_));
    }

    // prefix_ = prefix sums along area rows of the energy of window_size rows, one row for each search row.
    void fill_prefixes() const {
        const int width = last_ - first_;
        std::int32_t* prefix = prefix_;
        for (int s = 0; s < side_; ++s, prefix += prefix_pitch_) {
            const std::uint32_t* upper = above(s);
            const std::uint32_t* lower = below(s);
            fill(prefix, first_, lower[0] - upper[0]);
            for (int x = 0; x <= width; x += kLanes) {
                store_vector(prefix + first_ + x, load_vector<Int>(lower + x) - load_vector<Int>(upper + x));
            }
            fill(prefix + last_ + 1, first_, lower[width] - upper[width]);
        }
    }

    // A pass of its own, since a load that spans several recent stores has to wait for them.
    void subtract_prefixes() const {
        std::int32_t* energy = energy_;
        const std::int32_t* prefix = prefix_;
        for (int s = 0; s < side_; ++s, prefix += prefix_pitch_, energy += side_) {
            if (stride_ == 1) {
                for (int x = 0; x < side_; x += kLanes) {
                    store_vector(energy + x, load_vector<Int>(prefix + x + size_) - load_vector<Int>(prefix + x));
                }
            } else {
                for (int i = 0; i < side_; ++i) energy[i] = prefix[i * stride_ + size_] - prefix[i * stride_];
            }
        }
    }

    // to[0..count-1] = value, and up to a vector beyond.
    static void fill(std::int32_t* to, int count, std::uint32_t value) {
        const Int values = Int{} + static_cast<std::int32_t>(value);
        for (int i = 0; i < count; i += kLanes) store_vector(to + i, values);
    }

    const int side_, stride_, size_;
    const int first_, last_;  // rows and columns of the area that are not zero
    const std::ptrdiff_t prefix_pitch_;
    std::int32_t* prefix_;
    bool clipped_;  // whether boxes reach out of the search area
    bool by_rows_;
    // Of the pixel at hand.
    const std::uint32_t* corner_;  // of the area's part that is not zero, in the integral image
    std::ptrdiff_t pitch_;
    std::int32_t* energy_;
    int row_;  // next search row
    std::int32_t left_ends_[kLanes];   // of the first register of boxes
    std::int32_t right_ends_[kLanes];  // of the second
};

}  // namespace ssl_data
