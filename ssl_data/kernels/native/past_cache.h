// Copying to memory that is not looked at soon: a batch is larger than the cache, in which the copy need not leave traces.
//
// Other threads see such copies only after publish().
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ssl_data {

class PastCache {
   public:
    // To be copied: at once, or, where it continues what was added before, when it is its turn. It has to stay as it is
    // until finish().
    void add(std::uint8_t* to, const std::uint8_t* from, std::size_t size) {
        if (to != to_ + size_ || from != from_ + size_) {
            finish();
            to_ = to;
            from_ = from;
            size_ = 0;
            const std::size_t head = std::min(size, -reinterpret_cast<std::uintptr_t>(to) % kLine);
            std::memcpy(to, from, head);
            advance(head);
            size_ = size - head;
        } else {
            size_ += size;
        }
    }

    // Copies one line, if so much is left.
    void step() {
        if (size_ < kLine) return;
#if defined(__x86_64__)
        for (std::size_t i = 0; i < kLine; i += kVector) {
            const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from_ + i));
            _mm_stream_si128(reinterpret_cast<__m128i*>(to_ + i), bytes);
        }
#else
        std::memcpy(to_, from_, kLine);
#endif
        advance(kLine);
        size_ -= kLine;
    }

    // Copies the rest.
    void finish() {
        while (size_ >= kLine) step();
        if (size_ > 0) std::memcpy(to_, from_, size_);
        to_ = nullptr;  // nothing continues it: it may end in the middle of a line
        from_ = nullptr;
        size_ = 0;
    }

    static void publish() {
#if defined(__x86_64__)
        _mm_sfence();
#endif
    }

   private:
    static constexpr std::size_t kLine = 64, kVector = 16;

    void advance(std::size_t size) {
        to_ += size;
        from_ += size;
    }

    std::uint8_t* to_ = nullptr;
    const std::uint8_t* from_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace ssl_data
