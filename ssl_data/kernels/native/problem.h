// What is computed, independent of how: the problem shared by all backends, and the table of backends.
//
// For an edge pixel p and a search offset d, over window offsets j and channels, with I the padded image and Q the
// values that are compared with it (I again, or 0 outside the search area):
//
//     ssd(p, d) = sum (I(p+j) - Q(p+d+j))^2
//               = sum I(p+j)^2  +  sum (Q^2 - 256 Q)(p+d+j)  -  2 sum (I(p+j) - 128) Q(p+d+j)
//                 "square"         "energy"                       "cross"
//
// Moving 128 from one factor of the product to the middle term makes the window signed and leaves the search area
// unsigned: the operands that byte multipliers want. Where Q is 0, energy and cross are 0 as well, so "outside" costs
// nothing. Only cross is expensive. Energy is a box sum, taken from an integral image.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ssl_data {

struct Geometry {
    int search_size;
    int window_size;
    int stride;  // between search positions
    bool zero_outside;

    int radius() const { return search_size / 2; }
    int window_radius() const { return window_size / 2; }
    int positions() const { return (search_size - 1) / stride + 1; }  // along one axis
    int num_positions() const { return positions() * positions(); }
    int area_size() const { return search_size + window_size - 1; }  // all that the windows of a search area touch
    int reach() const { return area_size() / 2; }
    int pad() const {
        const int largest = radius() > window_radius() ? radius() : window_radius();
        return zero_outside ? largest : reach();
    }
};

// A part of the padded image. Rows may be read up to kSlack bytes beyond their end.
struct Image {
    static constexpr std::size_t kSlack = 192;
    int top;  // of the part, in the unpadded image
    int left;
    int height;
    int width;
    const std::uint8_t* bytes;  // interleaved RGB
    std::ptrdiff_t pitch;       // bytes from row to row
    const std::uint8_t* planes;  // the same as three planes of height * width bytes; for backends that ask for them
    // Integral image of the energy Q^2 - 256 Q, modulo 2^32: (height + 1) x energy_pitch, first row and column zero.
    const std::uint32_t* energy;
    std::ptrdiff_t energy_pitch;
};

// The code of an ssd is first[b] - (ssd > thresholds[first[b]]), b = min(ssd >> shift, num_buckets - 1).
struct CodeTable {
    int shift;
    int num_buckets;
    const std::uint8_t* first;
    const std::int32_t* thresholds;

    std::uint8_t code(std::int32_t ssd) const {
        const std::int32_t bucket = ssd >> shift;
        const std::uint8_t code = first[bucket < num_buckets ? bucket : num_buckets - 1];
        return static_cast<std::uint8_t>(code - (ssd > thresholds[code]));
    }
};

enum class Output { kSsd, kCodes, kNormalized };

struct Problem {
    Geometry geometry;
    Image image;
    const std::int32_t* pixels;  // row, col of each edge pixel in the unpadded image
    const std::int64_t* rows;    // row of the result for each pixel; null if they are in order
    Output output;
    float exponent_scale;  // S = 2^(ssd * exponent_scale); for codes of its square root
    CodeTable table;       // for codes
    void* result;          // one row of num_positions values per pixel: int32, uint8 or float
};

// One implementation. It neither allocates nor throws: the caller owns the memory it works in.
struct Backend {
    const char* name;
    bool (*supported)();
    bool planar;  // whether it wants Image::planes
    std::size_t (*workspace_bytes)(const Geometry&);
    // The graphs of pixels first..last-1; workspace is aligned to 64 bytes and private to the caller's thread.
    void (*run)(const Problem&, std::size_t first, std::size_t last, void* workspace);
    // Codes of plain sums of squared differences: the last stage alone, so that tests can reach every value.
    void (*encode)(const Problem&, const std::int32_t* ssd, std::size_t count, std::uint8_t* codes);
};

extern const Backend kPortable;
#if defined(__x86_64__)
extern const Backend kAvx2;
extern const Backend kAvx512;
#endif

}  // namespace ssl_data
