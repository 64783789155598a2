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
//     kHasBackground    whether there are registers enough for something else between the products
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
#include "finish.h"

namespace ssl_data {

// Products keep the multiplying units busy. What else is to be done, the energies of the same pixel and the last stage
// of the one before, needs mostly other units: it is computed between the products, a little at a time.
template <class Isa>
struct Background {
    Energy<Isa>* energy;
    Finish<Isa>* finish;
};

// What is computed beside the products of one step of a block: two vectors of the last stage and two rows of energies,
// spread over kPlaces places; for kSsd, nothing.
template <class Isa, Output kOutput, int kPlaces>
class Share {
   public:
    template <int kPlace>
    SSG_INLINE void advance(const Background<Isa>& background) {
        if constexpr (kOutput != Output::kSsd) {
            constexpr int kStages = Finish<Isa>::kStages;
            constexpr int kHalf = kPlaces / 2;
            constexpr int kBegin = kPlace % kHalf * kStages / kHalf;
            constexpr int kEnd = (kPlace % kHalf + 1) * kStages / kHalf;
            if constexpr (kPlace < 2 * kHalf) {
                unroll<kEnd - kBegin>([&](auto i) SSG_LAMBDA {
                    background.finish->template stage<kOutput, kBegin + decltype(i)::value>(value_);
                });
            }
            if constexpr (kPlace == kHalf || kPlace == kPlaces - 1) background.energy->advance();
        }
    }

   private:
    typename Exponential<Isa>::Value value_;
};

// Where the weight of a window row and a step is: row after row where rows are written as a whole, else step after
// step.
template <class Isa>
SSG_INLINE constexpr std::ptrdiff_t weight_index(int row, int step, std::ptrdiff_t pitch) {
    return Isa::kHasBytes ? row * pitch + step : step * pitch + row;
}

template <class Isa>
struct Block {
    const typename Isa::Element* data;  // search area at the block's first search row and column, first window row
    std::ptrdiff_t pitch;               // elements from row to row
    int num_steps;
    const int* step_offsets;               // element offset of each step in a row
    const typename Isa::Pattern* patterns;  // one per step
    const typename Isa::Weight* weights;    // of the first step and window row, see weight_index
    std::ptrdiff_t weights_pitch;
    int first_row;  // rows of the area outside first_row..last_row-1 count as zero
    int last_row;
    const typename Isa::Element* zeros;  // a row of zeros
    std::int32_t* cross;                 // receives the sums
    std::ptrdiff_t cross_pitch;
    int columns;  // to store
    int rows;     // to store
    bool add;     // to what cross holds already
    // The strip (graph.h), where a block of pairs computes it beside the rest: its first lanes, and where its sums go.
    const typename Isa::Lane* strip;
    std::ptrdiff_t strip_pitch;  // from step to step
    int strip_steps;             // 0 if there is none
    std::int32_t* strip_sums;
    Background<Isa> background;
};

template <class Isa, int kHeight>
SSG_INLINE void load_weights(typename Isa::LoadedWeight (&loaded)[kHeight], const Block<Isa>& block, int step) {
    const auto* weights = block.weights + weight_index<Isa>(0, step, block.weights_pitch);
    unroll<kHeight>([&](auto j) SSG_LAMBDA {
        loaded[j] = Isa::load_weight(weights + weight_index<Isa>(j, 0, block.weights_pitch));
    });
}

template <class Isa, int kHeight, int kRows, Output kOutput>
void multiply_block(const Block<Isa>& block) {
    using Vec = typename Isa::Vec;
    Vec sums[kRows];
    unroll<kRows>([&](auto row) SSG_LAMBDA { sums[row] = Isa::zero(); });
    for (int step = 0; step < block.num_steps; ++step) {
        const auto* data = block.data + block.step_offsets[step];
        const auto pattern = block.patterns[step];
        typename Isa::LoadedWeight weights[kHeight];
        load_weights<Isa>(weights, block, step);
        Share<Isa, kOutput, kRows + kHeight - 1> share;
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
            share.template advance<decltype(y)::value>(block.background);
        });
    }
    unroll<kRows>([&](auto row) SSG_LAMBDA {
        Isa::store(block.cross + row * block.cross_pitch, sums[row], block.columns, block.add);
    });
}

// Whether a block of pairs has registers for the strip, and search rows enough to be the only block.
constexpr bool takes_strip(int height, int rows) { return height <= 9 && rows == 13; }

// The same with pairs: sums[i] holds search rows 2i and 2i + 1, which meet window row j in area rows 2i + j and
// 2i + 1 + j. One of these may be inside and the other outside; so rows that are outside are read from zeros.
template <class Isa, int kHeight, int kRows, Output kOutput>
void multiply_pairs(const Block<Isa>& block) {
    using Vec = typename Isa::Vec;
    constexpr int kNumRows = 2 * kRows + kHeight - 1;
    const typename Isa::Element* rows[kNumRows];
    for (int y = 0; y < kNumRows; ++y) {
        rows[y] = y >= block.first_row && y < block.last_row ? block.data + y * block.pitch : block.zeros;
    }
    Vec sums[kRows];
    unroll<kRows>([&](auto pair) SSG_LAMBDA { sums[pair] = Isa::zero(); });
    Vec upper = Isa::zero();
    Vec lower = Isa::zero();
    for (int step = 0; step < block.num_steps; ++step) {
        const int offset = block.step_offsets[step];
        const auto pattern = block.patterns[step];
        typename Isa::LoadedWeight weights[kHeight];
        load_weights<Isa>(weights, block, step);
        Share<Isa, kOutput, kNumRows - 1> share;
        unroll<kNumRows - 1>([&](auto y) SSG_LAMBDA {
            const Vec gathered = Isa::gather_pair(rows[y] + offset, rows[y + 1] + offset, pattern);
            unroll<kHeight>([&](auto j) SSG_LAMBDA {
                constexpr int distance = decltype(y)::value - decltype(j)::value;
                constexpr int row = distance / 2;
                if constexpr (distance >= 0 && distance % 2 == 0 && row < kRows) {
                    sums[row] = Isa::multiply_add(sums[row], gathered, weights[j]);
                }
            });
            share.template advance<decltype(y)::value>(block.background);
            constexpr int j = decltype(y)::value / 3;  // products that add to one sum lie apart
            if constexpr (takes_strip(kHeight, kRows) && decltype(y)::value % 3 == 1 && j < kHeight) {
                if (step < block.strip_steps) {
                    const auto* lanes = block.strip + step * block.strip_pitch + j;
                    upper = Isa::multiply_add(upper, Isa::load_lanes(lanes), weights[j]);
                    lower = Isa::multiply_add(lower, Isa::load_lanes(lanes + Isa::kLanes), weights[j]);
                }
            }
        });
    }
    if (takes_strip(kHeight, kRows) && block.strip_steps > 0) {
        store_vector(block.strip_sums, upper);
        store_vector(block.strip_sums + Isa::kLanes, lower);
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

// Only large blocks have work enough to hide something behind, and not the highest ones registers.
template <class Isa>
constexpr Output background_output(int height, int rows, Output output) {
    return Isa::kHasBackground && height >= 7 && height <= 11 && rows >= 12 ? output : Output::kSsd;
}

template <class Isa, Output kOutput, class = std::make_integer_sequence<int, kNumHeights * kNumRowCounts>>
struct BlockTable;

template <class Isa, Output kOutput, int... kIndices>
struct BlockTable<Isa, kOutput, std::integer_sequence<int, kIndices...>> {
    static constexpr int height(int index) { return kHeights[index / kNumRowCounts]; }
    static constexpr int rows(int index) { return kRowCounts[index % kNumRowCounts]; }

    static void run(int height_index, int rows_index, const Block<Isa>& block) {
        static constexpr void (*functions[])(const Block<Isa>&) = {
            multiply_block<Isa, height(kIndices), rows(kIndices),
                           background_output<Isa>(height(kIndices), rows(kIndices), kOutput)>...};
        functions[height_index * kNumRowCounts + rows_index](block);
    }

    static void run_pairs(int height_index, int rows_index, const Block<Isa>& block) {
        static constexpr void (*functions[])(const Block<Isa>&) = {
            multiply_pairs<Isa, height(kIndices), rows(kIndices),
                           background_output<Isa>(height(kIndices), rows(kIndices), kOutput)>...};
        functions[height_index * kNumRowCounts + rows_index](block);
    }
};

// The right function for what is computed in the background.
template <class Isa>
void run_block(Output output, bool pairs, int height_index, int rows_index, const Block<Isa>& block) {
    const auto run = [&](auto kOutput) {
        using Table = BlockTable<Isa, decltype(kOutput)::value>;
        if constexpr (Isa::kHasPairs) {
            if (pairs) return Table::run_pairs(height_index, rows_index, block);
        }
        Table::run(height_index, rows_index, block);
    };
    if (!Isa::kHasBackground || output == Output::kSsd) return run(std::integral_constant<Output, Output::kSsd>{});
    if (output == Output::kCodes) return run(std::integral_constant<Output, Output::kCodes>{});
    run(std::integral_constant<Output, Output::kNormalized>{});
}

}  // namespace ssl_data
