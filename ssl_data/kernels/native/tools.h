// Small helpers, all inlined. Nothing of the C++ library is instantiated here: of several copies of a function, linkers
// keep one for the whole program, perhaps the one compiled for AVX-512.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "problem.h"

namespace ssl_data {

#define SSG_INLINE __attribute__((always_inline)) inline
#define SSG_LAMBDA __attribute__((always_inline))

template <class Function, int... kIndices>
SSG_INLINE void unroll(Function&& function, std::integer_sequence<int, kIndices...>) {
    (function(std::integral_constant<int, kIndices>{}), ...);
}

// Calls function(0), ..., function(kCount - 1) with constants: array elements so indexed live in registers.
template <int kCount, class Function>
SSG_INLINE void unroll(Function&& function) {
    unroll(function, std::make_integer_sequence<int, kCount>{});
}

template <class Vector, class T>
SSG_INLINE Vector load_vector(const T* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

template <class Vector, class T>
SSG_INLINE void store_vector(T* to, const Vector& vector) {
    std::memcpy(to, &vector, sizeof vector);
}

// Hands out pieces of one allocation. Without memory (base null) it only counts.
struct Arena {
    char* base;
    std::size_t used;

    template <class T>
    SSG_INLINE T* take(std::size_t count) {
        T* piece = base == nullptr ? nullptr : reinterpret_cast<T*>(base + used);
        used += (count * sizeof(T) + 63) / 64 * 64;
        return piece;
    }
};

}  // namespace ssl_data
