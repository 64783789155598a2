// Copying to memory that is not looked at soon: a batch is larger than the cache, in which the copy need not leave traces.
//
// Other threads see such copies only after publish().
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ssl_data {

class PastCache {
   public:
    // Takes over bytes to be copied, which have to stay as they are until finish() or until something is added that does not
    // continue them.
    void add(std::uint8_t* to, const std::uint8_t* from, std::size_t size) {
        if (to != to_ + size_ || from != from_ + size_) {
            finish();
            to_ = to;
            from_ = from;
        }
        size_ += size;
    }

    // Copies up to the end of a line, if so much is left.
    void step() {
        if (size_ < kLine) return;
        const std::size_t head = -reinterpret_cast<std::uintptr_t>(to_) % kLine;
        if (head != 0) {
            std::memcpy(to_, from_, head);
            advance(head);
            return;
        }
#if defined(__x86_64__)
        for (std::size_t i = 0; i < kLine; i += kVector) {
            const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from_ + i));
            _mm_stream_si128(reinterpret_cast<__m128i*>(to_ + i), bytes);
        }
#else
        std::memcpy(to_, from_, kLine);
#endif
        advance(kLine);
    }

    // Copies the rest.
    void finish() {
        while (size_ >= kLine) step();
        if (size_ > 0) std::memcpy(to_, from_, size_);
        to_ = nullptr;
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
        size_ -= size;
    }

    std::uint8_t* to_ = nullptr;
    const std::uint8_t* from_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace ssl_data
