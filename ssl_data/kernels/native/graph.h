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
//     kHasBytes        whether areas and windows are handled as bytes, and then
//     weights(bytes, count, weights)    the weights of a whole window row of `count` bytes
//     transpose(from, pitch, count, to, to_pitch)    four steps of the strip in four rows
//     widen(bytes, elements)   where areas are planes: converts kWidened of them
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

namespace ssl_data {

template <class Isa>
class Graph {
    using Element = typename Isa::Element;
    using Vec = typename Isa::Vec;
    using Weight = typename Isa::Weight;
    using Pattern = typename Isa::Pattern;
    using Lane = typename Isa::Lane;
    using Int = typename Isa::Int;
    static constexpr int kLanes = Isa::kLanes;

   public:
    Graph(const Problem& problem, Arena& arena)
        : problem_(problem), geometry_(problem.geometry), energies_(geometry_, arena), finish_(problem_, arena) {
        lay_out(arena);
        if (arena.base == nullptr) return;
        plan_steps();
        plan_groups();
        std::memset(strip_, 0, strip_size() * sizeof *strip_);
        std::memset(zeros_, 0, (area_pitch_ + Image::kSlack) * sizeof(Element));
        std::memset(area_, 0, area_elements() * sizeof(Element));
        std::memset(cross_, 0, 2 * padded_positions() * sizeof *cross_);
        std::memset(energy_, 0, 2 * padded_positions() * sizeof *energy_);
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
        finish_.complete();
        finish_.begin(cross_, energy_, sum_squares(), row_of(index));
        swap_buffers();
    }

    // Finishes the last pixel.
    void complete() { finish_.complete(); }

   private:
    struct Group {
        int column;
        int columns;
        bool pairs;
    };

    std::size_t padded_positions() const {
        return static_cast<std::size_t>(Finish<Isa>::padded(geometry_.num_positions()));
    }

    std::ptrdiff_t row_of(std::size_t index) const {
        return problem_.rows == nullptr ? static_cast<std::ptrdiff_t>(index) : problem_.rows[index];
    }

    // The sums of a pixel are used while those of the next one are computed.
    void swap_buffers() {
        const auto other = static_cast<std::ptrdiff_t>(padded_positions());
        second_ = !second_;
        cross_ += second_ ? other : -other;
        energy_ += second_ ? other : -other;
    }

    std::size_t area_elements() const { return area_pitch_ * geometry_.area_size() + Image::kSlack; }
    std::size_t strip_size() const { return (max_steps() + 4) * strip_pitch_; }
    int max_steps() const { return 3 * geometry_.window_size; }
    int max_groups() const { return geometry_.positions() / kLanes + 2; }
    bool reads_image() const { return Isa::kInterleaved && geometry_.stride == 1; }

    void lay_out(Arena& arena) {
        constexpr int line = 64 / sizeof(Element);
        area_pitch_ = (3 * geometry_.area_size() + 2 * line - 1) / line * line;
        plane_ = geometry_.area_size();
        strip_pitch_ = geometry_.area_size() + 3 * kLanes;
        first_ = geometry_.zero_outside ? geometry_.window_radius() : 0;
        last_ = geometry_.area_size() - first_;
        step_offsets_ = arena.take<int>(max_steps());
        step_sources_ = arena.take<int>(max_steps());
        step_counts_ = arena.take<int>(max_steps());
        column_offsets_ = arena.take<int>(geometry_.area_size());
        groups_ = arena.take<Group>(max_groups());
        patterns_ = arena.take<Pattern>(max_groups() * max_steps());
        strip_ = arena.take<Lane>(strip_size());
        weights_ = arena.take<Weight>(max_steps() * geometry_.window_size + kLanes);
        area_ = arena.take<Element>(area_elements());
        zeros_ = arena.take<Element>(area_pitch_ + Image::kSlack);
        cross_ = arena.take<std::int32_t>(2 * padded_positions());
        energy_ = arena.take<std::int32_t>(2 * padded_positions());
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
        const int size = geometry_.window_size;
        if (Isa::kInterleaved && stride == 1) return add_steps(0, 0, 3 * size);
        if (Isa::kInterleaved) {
            for (int x = 0; x < size; ++x) add_steps(column_offsets_[x], 3 * x, 3);
            return;
        }
        const int columns = stride == 1 ? Isa::kStepElements : 1;  // of one plane, in a step
        for (int x = 0; x < size; x += columns) {
            for (int c = 0; c < 3; ++c) {
                add_step(column_offsets_[x] + c * plane_, 3 * x + c, size - x < columns ? size - x : columns);
            }
        }
    }

    void add_steps(int offset, int source, int count) {
        for (int done = 0; done < count; done += Isa::kStepElements) {
            const int left = count - done;
            add_step(offset + done, source + done, left < Isa::kStepElements ? left : Isa::kStepElements);
        }
    }

    void add_step(int offset, int source, int count) {
        step_offsets_[num_steps_] = offset;
        step_sources_[num_steps_] = source;
        step_counts_[num_steps_] = count;
        ++num_steps_;
    }

    // How the search columns are divided.
    void plan_groups() {
        const int side = geometry_.positions();
        const int rest = side % kLanes;
        const bool one_left = rest == 1 || (Isa::kHasPairs && rest == kLanes / 2 + 1);
        // A strip expects the search area to cut off window rows at their right end only, not at both.
        has_strip_ = one_left && geometry_.stride == 1 && side > 4 && side - 1 >= first_;
        const int wide = has_strip_ ? side - 1 : side;
        const int pair_rows = kRowCounts[fitting(kRowCounts, (side + 1) / 2)];
        const int height = kHeights[fitting(kHeights, geometry_.window_size)];
        strip_in_pairs_ = has_strip_ && Isa::kHasPairs && wide % kLanes == kLanes / 2 && 2 * pair_rows >= side &&
                          height == geometry_.window_size && takes_strip(height, pair_rows) && side <= 2 * kLanes;
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
        const std::ptrdiff_t pitch = problem_.image.pitch;
        int row = 0;
        for (int phase = 0; phase < geometry_.stride; ++phase) {
            for (int j = phase; j < geometry_.window_size; j += geometry_.stride, ++row) {
                load_window_row(window_start() + j * pitch, row);
            }
        }
    }

    void load_window_row(const std::uint8_t* bytes, int row) {
        if constexpr (Isa::kHasBytes) {
            if (reads_image()) return Isa::weights(bytes, 3 * geometry_.window_size, weight(row, 0));
        }
        const int num_steps = num_steps_;
        for (int step = 0; step < num_steps; ++step) {
            *weight(row, step) = Isa::weight(bytes + step_sources_[step], step_counts_[step]);
        }
    }

    std::ptrdiff_t weights_pitch() const { return Isa::kHasBytes ? max_steps() : geometry_.window_size; }
    Weight* weight(int row, int step) const { return weights_ + weight_index<Isa>(row, step, weights_pitch()); }

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
        if constexpr (!Isa::kInterleaved) {
            if (geometry_.stride == 1 && last_ - first_ >= Isa::kWidened) return load_planes();
        }
        const int channel = Isa::kInterleaved ? 1 : plane_;
        for (int y = first_; y < last_; ++y) {
            const std::uint8_t* from = start + y * image.pitch + 3 * first_;
            Element* to = area_ + y * area_pitch_;
            for (int x = first_; x < last_; ++x, from += 3) {
                for (int c = 0; c < 3; ++c) to[column_offsets_[x] + c * channel] = static_cast<Element>(from[c]);
            }
        }
    }

    void load_planes() {
        const Image& image = problem_.image;
        const std::ptrdiff_t size = std::ptrdiff_t{1} * image.height * image.width;
        const std::uint8_t* plane = image.planes + std::ptrdiff_t{1} * top_ * image.width + left_;
        const int first = first_;
        const int last = last_;
        for (int c = 0; c < 3; ++c, plane += size) {
            for (int y = first; y < last; ++y) {
                const std::uint8_t* from = plane + y * std::ptrdiff_t{1} * image.width;
                Element* to = area_ + y * area_pitch_ + c * plane_;
                for (int x = first; x < last; x += Isa::kWidened) {
                    const int column = x < last - Isa::kWidened ? x : last - Isa::kWidened;
                    Isa::widen(from + column, to + column);
                }
            }
        }
    }

    // strip_[step][y] = what the last search column sees in row y of the area.
    void load_strip() {
        if (!has_strip_) return;
        const int column = geometry_.positions() - 1;
        const int width = 3 * (last_ - column);  // window elements that lie inside
        const Element* const start = data_ + first_ * data_pitch_ + column * Isa::kPixelElements;
        strip_steps_ = 0;
        if constexpr (Isa::kHasBytes) {
            for (; 4 * strip_steps_ < width && strip_steps_ < num_steps_; strip_steps_ += 4) {
                Lane* to = strip_ + strip_steps_ * strip_pitch_;
                load_strip_steps(start + 4 * strip_steps_, width - 4 * strip_steps_, to);
            }
            strip_steps_ = strip_steps_ < num_steps_ ? strip_steps_ : num_steps_;
            return;
        }
        for (; strip_steps_ < num_steps_ && step_sources_[strip_steps_] < width; ++strip_steps_) {
            const int left = width - step_sources_[strip_steps_];
            const int count = left < step_counts_[strip_steps_] ? left : step_counts_[strip_steps_];
            const Element* from = start + step_offsets_[strip_steps_];
            Lane* to = strip_ + strip_steps_ * strip_pitch_;
            for (int y = first_; y < last_; ++y, from += data_pitch_) to[y] = Isa::lane(from, count);
        }
    }

    // Four steps in all rows, of which the first `count` bytes lie inside.
    void load_strip_steps(const Element* from, int count, Lane* to) const {
        for (int y = first_; y < last_; y += 4) {
            const int row = y < last_ - 4 ? y : last_ - 4;  // the last four rows may have been among those before
            Isa::transpose(from + (row - first_) * data_pitch_, data_pitch_, count, to + row, strip_pitch_);
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
        block.weights_pitch = weights_pitch();
        block.cross_pitch = side;
        block.zeros = zeros_;
        block.background = {&energies_, &finish_};
        block.columns = groups_[group].columns;
        block.strip = strip_;
        block.strip_pitch = strip_pitch_;
        block.strip_steps = pairs && strip_in_pairs_ ? strip_steps_ : 0;
        block.strip_sums = strip_sums_;
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
                block.weights = weight(slot, step);
                run_block(problem_.output, pairs, height, registers, block);
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
        for (int row = 0; has_strip_ && row < side; row += 2 * kLanes) {
            if (!strip_in_pairs_) add_strip_products(row);
            std::int32_t* cross = cross_ + row * side + side - 1;
            for (int i = 0; i < 2 * kLanes && row + i < side; ++i, cross += side) *cross = strip_sums_[i];
        }
    }

    // strip_sums_ = the products in 2 * kLanes search rows.
    void add_strip_products(int row) {
        std::memset(strip_sums_, 0, sizeof strip_sums_);
        for (int step = 0; step < strip_steps_;) {
            const int end = step + exact_steps(strip_steps_ - step, geometry_.window_size);
            add_strip_products(step, end, row);
            step = end;
        }
    }

    // Adds those of some steps.
    void add_strip_products(int step, int end, int row) {
        const int size = geometry_.window_size;
        Vec even_upper = Isa::zero();  // four sums, so that they need not wait for one another
        Vec even_lower = Isa::zero();
        Vec odd_upper = Isa::zero();
        Vec odd_lower = Isa::zero();
        for (; step < end; ++step) {
            const Lane* lanes = strip_ + step * strip_pitch_ + row;
            const auto add = [&](Vec& upper, Vec& lower, int j) SSG_LAMBDA {
                const auto loaded = Isa::load_weight(weight(j, step));
                upper = Isa::multiply_add(upper, Isa::load_lanes(lanes + j), loaded);
                lower = Isa::multiply_add(lower, Isa::load_lanes(lanes + j + kLanes), loaded);
            };
            add(even_upper, even_lower, 0);
            for (int j = 1; j < size; j += 2) {
                add(odd_upper, odd_lower, j);
                add(even_upper, even_lower, j + 1);
            }
        }
        const Int upper = Isa::to_int(even_upper) + Isa::to_int(odd_upper);
        const Int lower = Isa::to_int(even_lower) + Isa::to_int(odd_lower);
        store_vector(strip_sums_, load_vector<Int>(strip_sums_) + upper);
        store_vector(strip_sums_ + kLanes, load_vector<Int>(strip_sums_ + kLanes) + lower);
    }

    const Problem& problem_;
    const Geometry geometry_;
    Energy<Isa> energies_;
    Finish<Isa> finish_;
    // Fixed for a call.
    int* step_offsets_;
    int* step_sources_;
    int* step_counts_;
    int* column_offsets_;
    int num_steps_ = 0;
    int num_groups_ = 0;
    bool has_strip_ = false;
    bool strip_in_pairs_ = false;  // whether a block of pairs computes it
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
    alignas(64) std::int32_t strip_sums_[2 * kLanes];
    Element* zeros_;
    Element* area_;
    const Element* data_;  // area_, or the image itself
    std::ptrdiff_t data_pitch_;
    std::int32_t* cross_;
    std::int32_t* energy_;
    bool second_ = false;  // whether cross_ and energy_ are the second of two
};

}  // namespace ssl_data
