// The inner loop, written once for all instruction sets.
//
// An instruction set is described by a class Isa:
//
//     Vec, kLanes       a register of kLanes sums
//     Element           what the search area is stored as; kPixelElements from one search column to the next
//     kStepElements     consecutive elements that one multiply-add takes up per lane: a "step" along a window row
//     Weight            the window's counterpart of a step, as kept in memory; LoadedWeight, as multiply_add takes it
//     Lane              what a gathered step is in one lane, a value of 4 bytes
//     Pattern           which elements of a gathered step count (the rest of them are made zero)
//     gather(row, pattern), load_lanes, multiply_add, zero, to_int, store
//     gather_pair(upper, lower, pattern), store_pair: only where there are pairs
//
// A block is kRows registers of sums. For one step of the window rows, each row of the search area that the block
// meets is gathered once and multiplied by every window row that pairs it with one of the block's search rows. So a
// gathered register serves up to kHeight multiply-adds, and the kHeight weights stay the same for the whole pass: where
// there are 32 registers, sums and weights together never leave them.
//
// A register holds one search row of kLanes columns; or, so that few lanes stay idle at the right end, a pair: two
// search rows of half as many columns.
#pragma once

#include "energy.h"

namespace ssg {

template <class Isa>
struct Block {
    const typename Isa::Element* data;  // search area at the block's first search row and column, first window row
    std::ptrdiff_t pitch;               // elements from row to row
    int num_steps;
    const int* step_offsets;               // element offset of each step in a row
    const typename Isa::Pattern* patterns;  // one per step
    const typename Isa::Weight* weights;    // of the first window row; one per window row, next step weights_pitch on
    int weights_pitch;
    int first_row;  // rows of the area outside first_row..last_row-1 count as zero
    int last_row;
    const typename Isa::Element* zeros;  // a row of zeros
    std::int32_t* cross;                 // receives the sums
    std::ptrdiff_t cross_pitch;
    int columns;  // to store
    int rows;     // to store
    bool add;     // to what cross holds already
    Energy<Isa>* energy;
};

template <class Isa, int kHeight>
SSG_INLINE void load_weights(typename Isa::LoadedWeight (&loaded)[kHeight], const Block<Isa>& block, int step) {
    const auto* weights = block.weights + step * block.weights_pitch;
    unroll<kHeight>([&](auto j) SSG_LAMBDA { loaded[j] = Isa::load_weight(weights + j); });
}

template <class Isa, int kHeight, int kRows>
void multiply_block(const Block<Isa>& block) {
    using Vec = typename Isa::Vec;
    Vec sums[kRows];
    unroll<kRows>([&](auto row) SSG_LAMBDA { sums[row] = Isa::zero(); });
    for (int step = 0; step < block.num_steps; ++step) {
        const auto* data = block.data + block.step_offsets[step];
        const auto pattern = block.patterns[step];
        typename Isa::LoadedWeight weights[kHeight];
        load_weights<Isa>(weights, block, step);
        unroll<kRows + kHeight - 1>([&](auto y) SSG_LAMBDA {
            if (y >= block.first_row && y < block.last_row) {
                const Vec gathered = Isa::gather(data + y * block.pitch, pattern);
                unroll<kHeight>([&](auto j) SSG_LAMBDA {
                    constexpr int row = decltype(y)::value - decltype(j)::value;
                    if constexpr (row >= 0 && row < kRows) {
                        sums[row] = Isa::multiply_add(sums[row], gathered, weights[j]);
                    }
                });
            }
        });
        block.energy->advance();
        block.energy->advance();
    }
    unroll<kRows>([&](auto row) SSG_LAMBDA {
        Isa::store(block.cross + row * block.cross_pitch, sums[row], block.columns, block.add);
    });
}

// The same with pairs: sums[i] holds search rows 2i and 2i + 1, which meet window row j in area rows 2i + j and
// 2i + 1 + j. One of these may be inside and the other outside; so rows that are outside are read from zeros.
template <class Isa, int kHeight, int kRows>
void multiply_pairs(const Block<Isa>& block) {
    using Vec = typename Isa::Vec;
    constexpr int kNumRows = 2 * kRows + kHeight - 1;
    const typename Isa::Element* rows[kNumRows];
    for (int y = 0; y < kNumRows; ++y) {
        rows[y] = y >= block.first_row && y < block.last_row ? block.data + y * block.pitch : block.zeros;
    }
    Vec sums[kRows];
    unroll<kRows>([&](auto pair) SSG_LAMBDA { sums[pair] = Isa::zero(); });
    for (int step = 0; step < block.num_steps; ++step) {
        const int offset = block.step_offsets[step];
        const auto pattern = block.patterns[step];
        typename Isa::LoadedWeight weights[kHeight];
        load_weights<Isa>(weights, block, step);
        unroll<kNumRows - 1>([&](auto y) SSG_LAMBDA {
            const Vec gathered = Isa::gather_pair(rows[y] + offset, rows[y + 1] + offset, pattern);
            unroll<kHeight>([&](auto j) SSG_LAMBDA {
                constexpr int distance = decltype(y)::value - decltype(j)::value;
                constexpr int row = distance / 2;
                if constexpr (distance >= 0 && distance % 2 == 0 && row < kRows) {
                    sums[row] = Isa::multiply_add(sums[row], gathered, weights[j]);
                }
            });
        });
        block.energy->advance();
    }
    unroll<kRows>([&](auto pair) SSG_LAMBDA {
        std::int32_t* cross = block.cross + 2 * pair * block.cross_pitch;
        std::int32_t* next = 2 * pair + 1 < block.rows ? cross + block.cross_pitch : nullptr;
        Isa::store_pair(cross, next, sums[pair], block.columns, block.add);
    });
}

// A function for each pair of a height and a number of rows, largest first; whatever is larger is taken in parts.
constexpr int kHeights[] = {15, 13, 11, 9, 7, 5, 3, 2, 1};
constexpr int kRowCounts[] = {13, 12, 4, 1};
constexpr int kNumHeights = sizeof kHeights / sizeof *kHeights;
constexpr int kNumRowCounts = sizeof kRowCounts / sizeof *kRowCounts;

// Index of the largest size that is not above the limit; the last size is 1.
template <int kCount>
SSG_INLINE int fitting(const int (&sizes)[kCount], int limit) {
    int index = 0;
    while (sizes[index] > limit) ++index;
    return index;
}

template <class Isa, class = std::make_integer_sequence<int, kNumHeights * kNumRowCounts>>
struct BlockTable;

template <class Isa, int... kIndices>
struct BlockTable<Isa, std::integer_sequence<int, kIndices...>> {
    static void run(int height, int rows, const Block<Isa>& block) {
        static constexpr void (*functions[])(const Block<Isa>&) = {
            multiply_block<Isa, kHeights[kIndices / kNumRowCounts], kRowCounts[kIndices % kNumRowCounts]>...};
        functions[height * kNumRowCounts + rows](block);
    }

    static void run_pairs(int height, int rows, const Block<Isa>& block) {
        static constexpr void (*functions[])(const Block<Isa>&) = {
            multiply_pairs<Isa, kHeights[kIndices / kNumRowCounts], kRowCounts[kIndices % kNumRowCounts]>...};
        functions[height * kNumRowCounts + rows](block);
    }
};

}  // namespace ssg
