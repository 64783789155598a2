// Graphs, turned: copied from where they were decoded to where a sample wants them, with their columns in another order.
//
// Flips and transposition of an image move the K values of a graph, bytes or pairs of them, within a row; `columns`
// says which stored column each one comes from. A look-up per value is right everywhere. For bytes, with AVX-512 VBMI,
// 64 bytes are moved at once: vpermi2b picks from 128 bytes by the lowest seven bits of the column, so that a row of up
// to 640 bytes lies in five pairs of registers, and the higher bits choose among the five results.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "past_cache.h"

namespace ssl_data {

// Row places[i] of `out` becomes row rows[i] of `graphs`, column k of it column columns[k].
template <class T>
struct Turn {
    const T* graphs;
    const std::int32_t* rows;
    const std::int32_t* places;
    std::size_t count;
    const std::uint16_t* columns;  // null: as they are
    std::size_t num_columns;
    T* out;
};

template <class T>
void copy_rows(const Turn<T>& problem) {
    PastCache copies;
    for (std::size_t i = 0; i < problem.count; ++i) {
        copies.add(reinterpret_cast<std::uint8_t*>(problem.out + problem.places[i] * problem.num_columns),
                   reinterpret_cast<const std::uint8_t*>(problem.graphs + problem.rows[i] * problem.num_columns),
                   problem.num_columns * sizeof(T));
    }
    copies.finish();
    PastCache::publish();
}

template <class T>
void turn_portable(const Turn<T>& problem) {
    for (std::size_t index = 0; index < problem.count; ++index) {
        const T* from = problem.graphs + problem.rows[index] * problem.num_columns;
        T* to = problem.out + problem.places[index] * problem.num_columns;
        for (std::size_t i = 0; i < problem.num_columns; ++i) to[i] = from[problem.columns[i]];
    }
}

#if defined(__x86_64__)
constexpr std::size_t kBytes = 64, kMostPairs = 5, kMostBytes = 2 * kMostPairs * kBytes;

__attribute__((target("avx512f,avx512bw,avx512vbmi"))) inline void turn_avx512(const Turn<std::uint8_t>& problem) {
    const std::size_t size = problem.num_columns;
    const std::size_t num_steps = (size + kBytes - 1) / kBytes, num_pairs = (num_steps + 1) / 2;
    __m512i low[2 * kMostPairs];             // seven lower bits of the columns, for each step of 64 bytes
    __mmask64 chosen[2 * kMostPairs][kMostPairs];  // which bytes of a step come from which pair of registers
    __mmask64 inside[2 * kMostPairs];
    for (std::size_t step = 0; step < 2 * kMostPairs; ++step) {
        std::uint8_t bits[kBytes] = {};
        inside[step] = 0;
        for (std::size_t pair = 0; pair < kMostPairs; ++pair) chosen[step][pair] = 0;
        for (std::size_t i = 0; i < kBytes && kBytes * step + i < size; ++i) {
            const std::uint16_t column = problem.columns[kBytes * step + i];
            bits[i] = column & 127;
            inside[step] |= __mmask64{1} << i;
            chosen[step][column >> 7] |= __mmask64{1} << i;
        }
        low[step] = _mm512_loadu_si512(bits);
    }
    for (std::size_t index = 0; index < problem.count; ++index) {
        const std::uint8_t* from = problem.graphs + problem.rows[index] * size;
        std::uint8_t* to = problem.out + problem.places[index] * size;
        __m512i source[2 * kMostPairs];
        for (std::size_t step = 0; step < 2 * kMostPairs; ++step) {
            source[step] = _mm512_maskz_loadu_epi8(inside[step], from + kBytes * step);
        }
        for (std::size_t step = 0; step < num_steps; ++step) {
            __m512i result = _mm512_permutex2var_epi8(source[0], low[step], source[1]);
            for (std::size_t pair = 1; pair < num_pairs; ++pair) {
                const __m512i other = _mm512_permutex2var_epi8(source[2 * pair], low[step], source[2 * pair + 1]);
                result = _mm512_mask_mov_epi8(result, chosen[step][pair], other);
            }
            _mm512_mask_storeu_epi8(to + kBytes * step, inside[step], result);
        }
    }
}
#endif

template <class T>
void turn_rows(const Turn<T>& problem, [[maybe_unused]] bool portable) {
    if (problem.columns == nullptr) return copy_rows(problem);
#if defined(__x86_64__)
    if constexpr (sizeof(T) == 1) {
        if (!portable && problem.num_columns <= kMostBytes && __builtin_cpu_supports("avx512vbmi")) {
            return turn_avx512(problem);
        }
    }
#endif
    turn_portable(problem);
}

}  // namespace ssl_data
