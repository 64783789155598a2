// The part of an image that some pixels' search areas touch, continued by reflection, with its integral image.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>

#include "problem.h"

namespace ssl_data {

// First and last row and column, both inclusive.
struct Box {
    int top, bottom, left, right;
};

// Owns what Image points to.
class PreparedImage {
   public:
    // bytes: interleaved RGB of height * width pixels, without gaps; pixels: the box that holds all edge pixels.
    PreparedImage(const std::uint8_t* bytes, int height, int width, const Box& pixels, const Geometry& geometry,
                  bool planar) {
        const int pad = geometry.pad();
        image_.top = pixels.top - pad;
        image_.left = pixels.left - pad;
        image_.height = pixels.bottom - pixels.top + 1 + 2 * pad;
        image_.width = pixels.right - pixels.left + 1 + 2 * pad;
        image_.pitch = std::ptrdiff_t{3} * image_.width;
        image_.energy_pitch = std::ptrdiff_t{1} + image_.width;
        allocate(geometry.reach() - pad);
        for (int y = 0; y < image_.height; ++y) {
            const int row = reflected(image_.top + y, height);
            copy_row(bytes + std::ptrdiff_t{3} * row * width, width, start_ + y * image_.pitch);
        }
        integrate();
        if (planar) separate();
    }

    const Image& image() const { return image_; }

   private:
    // Search areas begin up to `margin` pixels above and left of the part, though what lies there does not count. The
    // memory is left as it is: clearing it would cost as much as filling it.
    void allocate(int margin) {
        const std::ptrdiff_t before = margin * (image_.pitch + 3) + static_cast<std::ptrdiff_t>(Image::kSlack);
        const std::ptrdiff_t rows = image_.height + margin;
        bytes_.reset(new std::uint8_t[static_cast<std::size_t>(before + rows * image_.pitch) + Image::kSlack]);
        start_ = bytes_.get() + before;
        image_.bytes = start_;
        const std::ptrdiff_t sums = (image_.height + 1) * image_.energy_pitch;
        energy_.reset(new std::uint32_t[static_cast<std::size_t>(sums) + Image::kSlack]);
        image_.energy = energy_.get();
    }

    // Without repeating the border pixel; once is enough, since images are larger than the padding.
    static int reflected(int position, int length) {
        if (position < 0) return -position;
        return position < length ? position : 2 * (length - 1) - position;
    }

    void copy_row(const std::uint8_t* from, int width, std::uint8_t* to) const {
        const int begin = image_.left;
        const int end = image_.left + image_.width;
        for (int x = begin; x < 0; ++x) copy_pixel(from, -x, to + 3 * (x - begin));
        const int first = std::max(begin, 0);
        const int last = std::min(end, width);
        std::memcpy(to + 3 * (first - begin), from + 3 * first, 3 * static_cast<std::size_t>(last - first));
        for (int x = width; x < end; ++x) copy_pixel(from, 2 * (width - 1) - x, to + 3 * (x - begin));
    }

    static void copy_pixel(const std::uint8_t* from, int x, std::uint8_t* to) { std::memcpy(to, from + 3 * x, 3); }

    void integrate() {
        std::fill_n(energy_.get(), image_.energy_pitch, 0U);
        const std::unique_ptr<std::uint16_t[]> terms(new std::uint16_t[static_cast<std::size_t>(image_.pitch)]);
        for (int y = 0; y < image_.height; ++y) {
            const std::uint8_t* bytes = start_ + y * image_.pitch;
            // A pass of its own, which compilers turn into vector instructions.
            for (std::ptrdiff_t i = 0; i < image_.pitch; ++i) {
                terms[i] = static_cast<std::uint16_t>(bytes[i] * (256 - bytes[i]));
            }
            const std::uint32_t* above = energy_.get() + y * image_.energy_pitch;
            std::uint32_t* row = energy_.get() + (y + 1) * image_.energy_pitch;
            std::uint32_t sum = 0;
            row[0] = 0;
            for (int x = 0; x < image_.width; ++x) {
                sum += std::uint32_t{0} + terms[3 * x] + terms[3 * x + 1] + terms[3 * x + 2];
                row[x + 1] = above[x + 1] - sum;
            }
        }
    }

    void separate() {
        const std::ptrdiff_t size = std::ptrdiff_t{1} * image_.height * image_.width;
        planes_.reset(new std::uint8_t[static_cast<std::size_t>(3 * size) + Image::kSlack]);
        for (std::ptrdiff_t i = 0; i < size; ++i) {
            for (int c = 0; c < 3; ++c) planes_[c * size + i] = start_[3 * i + c];
        }
        image_.planes = planes_.get();
    }

    std::unique_ptr<std::uint8_t[]> bytes_;
    std::unique_ptr<std::uint8_t[]> planes_;
    std::unique_ptr<std::uint32_t[]> energy_;
    std::uint8_t* start_;
    Image image_ = {};
};

}  // namespace ssl_data
