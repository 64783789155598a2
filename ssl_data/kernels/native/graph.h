// One edge pixel after the other: everything around the blocks, written once for all instruction sets.
//
// Isa adds to blocks.h and finish.h:
//
//     kInterleaved     whether the search area is stored as RGB RGB ... (else as three planes)
//     kExactProducts   how many products |I - 128| * Q a register sums exactly
//     weight(bytes, count)     the Weight of the first `count` of kStepElements window bytes; the rest are zero
//     lane(elements, count)    the same for the search area, as a Lane
//     pattern(offset, begin, end)       lane i keeps elements offset + 3i + (0 .. kStepElements-1) in begin..end-1
//     pair_pattern(offset, begin, end)  the same for pairs, where lanes kLanes/2 .. kLanes-1 repeat the first ones
//     kHasPairs        whether there are pairs
//
// Interleaved search areas are not copied: blocks read the image itself, and for boundary "zero" skip the rows and
// blank out (by the patterns) the columns that lie outside the search area.
//
// Search columns that would fill only one lane of a register (the last column of 25 = 16 + 8 + 1 or 3 * 8 + 1) are
// taken apart, as a "strip": there, lanes are search rows.
//
// Search strides s > 1: columns x, x + s, x + 2s ... of the area are stored side by side, so that the lanes of a block
// are contiguous again; window row j meets area rows of one remainder modulo s, so that the window falls apart into s
// windows of every s-th row, each an ordinary problem on every s-th row of the area.
#pragma once

#include "blocks.h"
#include "finish.h"

namespace ssg {

template <class Isa>
class Graph {
    using Element = typename Isa::Element;
    using Weight = typename Isa::Weight;
    using Pattern = typename Isa::Pattern;
    using Lane = typename Isa::Lane;
    using Int = typename Isa::Int;
    static constexpr int kLanes = Isa::kLanes;

   public:
    Graph(const Problem& problem, Arena& arena)
        : problem_(problem), geometry_(problem.geometry), energies_(geometry_, arena) {
        lay_out(arena);
        if (arena.base == nullptr) return;
        plan_steps();
        plan_groups();
        std::memset(strip_, 0, strip_size() * sizeof *strip_);
        std::memset(zeros_, 0, (area_pitch_ + Image::kSlack) * sizeof(Element));
        std::memset(area_, 0, area_elements() * sizeof(Element));
        std::memset(cross_, 0, padded_positions() * sizeof *cross_);
        std::memset(energy_, 0, padded_positions() * sizeof *energy_);
    }

    void pixel(std::size_t index) {
        const std::int32_t* pixel = problem_.pixels + 2 * index;
        top_ = pixel[0] - problem_.image.top - geometry_.reach();
        left_ = pixel[1] - problem_.image.left - geometry_.reach();
        load_window();
        load_area();
        load_strip();
        energies_.begin(problem_.image, top_, left_, energy_);
        multiply();
        multiply_strip();
        energies_.complete();
        store_vector(energy_ + geometry_.num_positions(), Int{});  // what has been written beyond the end
        finish(index);
    }

   private:
    struct Group {
        int column;
        int columns;
        bool pairs;
    };

    std::size_t padded_positions() const { return geometry_.num_positions() + 2 * kLanes; }
    std::size_t area_elements() const { return area_pitch_ * geometry_.area_size() + Image::kSlack; }
    std::size_t strip_size() const { return max_steps() * strip_pitch_; }
    int max_steps() const { return 3 * geometry_.window_size; }
    int max_groups() const { return geometry_.positions() / kLanes + 2; }
    bool reads_image() const { return Isa::kInterleaved && geometry_.stride == 1; }

    void lay_out(Arena& arena) {
        constexpr int line = 64 / sizeof(Element);
        area_pitch_ = (3 * geometry_.area_size() + 2 * line - 1) / line * line;
        plane_ = geometry_.area_size();
        strip_pitch_ = geometry_.area_size() + 2 * kLanes;
        first_ = geometry_.zero_outside ? geometry_.window_radius() : 0;
        last_ = geometry_.area_size() - first_;
        step_offsets_ = arena.take<int>(max_steps());
        step_sources_ = arena.take<int>(max_steps());
        step_counts_ = arena.take<int>(max_steps());
        column_offsets_ = arena.take<int>(geometry_.area_size());
        groups_ = arena.take<Group>(max_groups());
        patterns_ = arena.take<Pattern>(max_groups() * max_steps());
        strip_ = arena.take<Lane>(strip_size());
        weights_ = arena.take<Weight>(max_steps() * geometry_.window_size);
        area_ = arena.take<Element>(area_elements());
        zeros_ = arena.take<Element>(area_pitch_ + Image::kSlack);
        cross_ = arena.take<std::int32_t>(padded_positions());
        energy_ = arena.take<std::int32_t>(padded_positions());
        similarity_ = arena.take<float>(padded_positions());
    }

    // Where each column of the area is stored, and the steps along a window row: runs of adjacent elements are cut
    // into pieces of kStepElements.
    void plan_steps() {
        const int stride = geometry_.stride;
        int slot = 0;
        for (int phase = 0; phase < stride; ++phase) {
            for (int x = phase; x < geometry_.area_size(); x += stride, ++slot) {
                column_offsets_[x] = Isa::kInterleaved ? 3 * slot : slot;
            }
        }
        if (Isa::kInterleaved && stride == 1) {
            add_steps(0, 0, 3 * geometry_.window_size);
            return;
        }
        for (int x = 0; x < geometry_.window_size; ++x) {
            if (Isa::kInterleaved) {
                add_steps(column_offsets_[x], 3 * x, 3);
            } else {
                for (int c = 0; c < 3; ++c) add_steps(column_offsets_[x] + c * plane_, 3 * x + c, 1);
            }
        }
    }

    void add_steps(int offset, int source, int count) {
        for (int done = 0; done < count; done += Isa::kStepElements, ++num_steps_) {
            step_offsets_[num_steps_] = offset + done;
            step_sources_[num_steps_] = source + done;
            step_counts_[num_steps_] = count - done < Isa::kStepElements ? count - done : Isa::kStepElements;
        }
    }

    // How the search columns are divided.
    void plan_groups() {
        const int side = geometry_.positions();
        const int rest = side % kLanes;
        const bool one_left = rest == 1 || (Isa::kHasPairs && rest == kLanes / 2 + 1);
        // A strip expects the search area to cut off window rows at their right end only, not at both.
        has_strip_ = one_left && geometry_.stride == 1 && side > 1 && side - 1 >= first_;
        const int wide = has_strip_ ? side - 1 : side;
        for (int column = 0; column < wide; column += kLanes, ++num_groups_) {
            Group& group = groups_[num_groups_];
            group.column = column;
            group.columns = wide - column < kLanes ? wide - column : kLanes;
            group.pairs = Isa::kHasPairs && group.columns <= kLanes / 2;
            for (int step = 0; step < num_steps_; ++step) {
                // Only what is read from the image needs blanking out: a copied area is zero there.
                const int offset = step_offsets_[step] + column * Isa::kPixelElements;
                const int begin = reads_image() ? 3 * first_ : 0;
                const int end = reads_image() ? 3 * last_ : 1 << 30;
                Pattern& pattern = patterns_[num_groups_ * max_steps() + step];
                pattern = Isa::pattern(offset, begin, end);
                if constexpr (Isa::kHasPairs) {
                    if (group.pairs) pattern = Isa::pair_pattern(offset, begin, end);
                }
            }
        }
    }

    // The window's weights, its rows ordered by remainder modulo the stride.
    void load_window() {
        const std::uint8_t* const window = window_start();
        const std::ptrdiff_t pitch = problem_.image.pitch;
        const int size = geometry_.window_size;
        const int stride = geometry_.stride;
        const int num_steps = num_steps_;
        Weight* weight = weights_;
        for (int step = 0; step < num_steps; ++step) {
            const int count = step_counts_[step];
            for (int phase = 0; phase < stride; ++phase) {
                const std::uint8_t* bytes = window + phase * pitch + step_sources_[step];
                for (int j = phase; j < size; j += stride, bytes += stride * pitch) {
                    *weight++ = Isa::weight(bytes, count);
                }
            }
        }
    }

    const std::uint8_t* window_start() const {
        const int radius = geometry_.radius();
        return problem_.image.bytes + (top_ + radius) * problem_.image.pitch + 3 * (left_ + radius);
    }

    // The window's sum of squares. Where the window lies inside the area, it is what makes the ssd of the centre 0.
    int sum_squares() const {
        const int size = geometry_.window_size;
        if (size / 2 <= geometry_.radius() || !geometry_.zero_outside) {
            const int centre = geometry_.num_positions() / 2;
            return 2 * cross_[centre] - energy_[centre];
        }
        int sum = 0;
        for (int j = 0; j < size; ++j) {
            const std::uint8_t* row = window_start() + j * problem_.image.pitch;
            for (int i = 0; i < 3 * size; ++i) sum += row[i] * row[i];
        }
        return sum;
    }

    // Boundary "zero" copies the search area alone; the rest of the area stays zero.
    void load_area() {
        const Image& image = problem_.image;
        const std::uint8_t* const start = image.bytes + top_ * image.pitch + 3 * left_;
        if (reads_image()) {
            data_pitch_ = image.pitch;
            data_ = reinterpret_cast<const Element*>(start);
            return;
        }
        data_pitch_ = area_pitch_;
        data_ = area_;
        const int channel = Isa::kInterleaved ? 1 : plane_;
        for (int y = first_; y < last_; ++y) {
            const std::uint8_t* from = start + y * image.pitch + 3 * first_;
            Element* to = area_ + y * area_pitch_;
            for (int x = first_; x < last_; ++x, from += 3) {
                for (int c = 0; c < 3; ++c) to[column_offsets_[x] + c * channel] = static_cast<Element>(from[c]);
            }
        }
    }

    // strip_[step][y] = what the last search column sees in row y of the area.
    void load_strip() {
        strip_steps_ = 0;
        if (!has_strip_) return;
        const int column = geometry_.positions() - 1;
        const int width = 3 * (last_ - column);  // window elements that lie inside
        const std::ptrdiff_t pitch = data_pitch_;
        const int first = first_;
        const int last = last_;
        for (int step = 0; step < num_steps_ && step_sources_[step] < width; ++step, ++strip_steps_) {
            const int left = width - step_sources_[step];
            const int count = left < step_counts_[step] ? left : step_counts_[step];
            const Element* from = data_ + first * pitch + step_offsets_[step] + column * Isa::kPixelElements;
            Lane* to = strip_ + step * strip_pitch_;
            for (int y = first; y < last; ++y, from += pitch) to[y] = Isa::lane(from, count);
        }
    }

    void multiply() {
        const int stride = geometry_.stride;
        for (int group = 0; group < num_groups_; ++group) {
            bool add = false;
            int slot = 0;  // of the pass's first window row in weights_
            for (int phase = 0; phase < stride && phase < geometry_.window_size; ++phase) {
                for (int j = phase; j < geometry_.window_size;) {
                    const int height = fitting(kHeights, (geometry_.window_size - 1 - j) / stride + 1);
                    multiply_rows(group, j, slot, height, add);
                    add = true;
                    slot += kHeights[height];
                    j += kHeights[height] * stride;
                }
            }
        }
    }

    // Adds the products of window rows j, j + stride, ... (kHeights[height] of them) in all search rows of a group.
    void multiply_rows(int group, int j, int slot, int height, bool add) {
        const int side = geometry_.positions();
        const int stride = geometry_.stride;
        const bool pairs = groups_[group].pairs;
        const int column = groups_[group].column;
        Block<Isa> block;
        block.pitch = stride * data_pitch_;
        block.weights_pitch = geometry_.window_size;
        block.cross_pitch = side;
        block.zeros = zeros_;
        block.energy = &energies_;
        block.columns = groups_[group].columns;
        for (int row = 0; row < side; row += block.rows) {
            const int left = side - row;
            const int registers = fitting(kRowCounts, pairs ? (left + 1) / 2 : left);
            const int rows = pairs ? 2 * kRowCounts[registers] : kRowCounts[registers];
            const int y = row * stride + j;  // of the block's first row in the area
            block.rows = rows < left ? rows : left;
            block.data = data_ + y * data_pitch_ + column * Isa::kPixelElements;
            block.first_row = (first_ - y + stride - 1) / stride;
            block.last_row = (last_ - y + stride - 1) / stride;
            block.cross = cross_ + row * side + column;
            block.add = add;
            // So few steps at a time that a register sums them exactly.
            for (int step = 0; step < num_steps_; step += block.num_steps) {
                block.num_steps = exact_steps(num_steps_ - step, kHeights[height]);
                block.step_offsets = step_offsets_ + step;
                block.patterns = patterns_ + group * max_steps() + step;
                block.weights = weights_ + step * geometry_.window_size + slot;
                if constexpr (Isa::kHasPairs) {
                    if (pairs) BlockTable<Isa>::run_pairs(height, registers, block);
                }
                if (!pairs) BlockTable<Isa>::run(height, registers, block);
                block.add = true;
            }
        }
    }

    static int exact_steps(int num_steps, int height) {
        const int allowed = Isa::kExactProducts / height;
        return num_steps < allowed ? num_steps : allowed;
    }

    void multiply_strip() {
        const int side = geometry_.positions();
        const int size = geometry_.window_size;
        for (int row = 0; has_strip_ && row < side; row += kLanes) {
            Int total = {};
            for (int step = 0; step < strip_steps_;) {
                const int end = step + exact_steps(strip_steps_ - step, size);
                auto even = Isa::zero();  // two sums, so that they need not wait for one another
                auto odd = Isa::zero();
                for (; step < end; ++step) {
                    const Lane* lanes = strip_ + step * strip_pitch_ + row;
                    const Weight* weights = weights_ + step * size;
                    even = Isa::multiply_add(even, Isa::load_lanes(lanes), Isa::load_weight(weights));
                    for (int j = 1; j < size; j += 2) {
                        const int k = j + 1;
                        odd = Isa::multiply_add(odd, Isa::load_lanes(lanes + j), Isa::load_weight(weights + j));
                        even = Isa::multiply_add(even, Isa::load_lanes(lanes + k), Isa::load_weight(weights + k));
                    }
                }
                total += Isa::to_int(even) + Isa::to_int(odd);
            }
            std::int32_t* cross = cross_ + row * side + side - 1;
            for (int i = 0; i < kLanes && row + i < side; ++i, cross += side) *cross = total[i];
        }
    }

    void finish(std::size_t index) {
        const std::ptrdiff_t count = geometry_.num_positions();
        const int square = sum_squares();
        const auto ssd = [&](std::ptrdiff_t first) SSG_LAMBDA {
            const Int cross = load_vector<Int>(cross_ + first);
            return load_vector<Int>(energy_ + first) + square - (cross + cross);
        };
        const std::ptrdiff_t row = problem_.rows == nullptr ? static_cast<std::ptrdiff_t>(index) : problem_.rows[index];
        const std::ptrdiff_t start = row * count;
        switch (problem_.output) {
            case Output::kSsd:
                return finish_ssd<Isa>(count, static_cast<std::int32_t*>(problem_.result) + start, ssd);
            case Output::kCodes:
                return finish_codes<Isa>(problem_, count, static_cast<std::uint8_t*>(problem_.result) + start, ssd);
            case Output::kNormalized:
                return finish_normalized<Isa>(problem_, count, static_cast<float*>(problem_.result) + start,
                                              similarity_, ssd);
        }
    }

    const Problem& problem_;
    const Geometry geometry_;
    Energy<Isa> energies_;
    // Fixed for a call.
    int* step_offsets_;
    int* step_sources_;
    int* step_counts_;
    int* column_offsets_;
    int num_steps_ = 0;
    int num_groups_ = 0;
    bool has_strip_ = false;
    int strip_steps_ = 0;
    int first_, last_;  // rows and columns of the area that are not zero
    Group* groups_;
    Pattern* patterns_;  // per group and step
    std::ptrdiff_t strip_pitch_;
    std::ptrdiff_t area_pitch_;
    int plane_;
    // Of the pixel at hand.
    int top_, left_;  // of the area in Problem::image
    Weight* weights_;
    Lane* strip_;
    Element* zeros_;
    Element* area_;
    const Element* data_;  // area_, or the image itself
    std::ptrdiff_t data_pitch_;
    std::int32_t* cross_;
    std::int32_t* energy_;
    float* similarity_;
};

}  // namespace ssg
