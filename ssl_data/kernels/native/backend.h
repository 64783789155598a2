// The functions of a Backend (see problem.h), for an instruction set described by Isa.
#pragma once

#include "graph.h"

namespace ssl_data {

template <class Isa>
std::size_t workspace_bytes(const Geometry& geometry) {
    Problem problem = {};
    problem.geometry = geometry;
    Arena arena = {nullptr, 0};
    Graph<Isa> graph(problem, arena);
    return arena.used;
}

template <class Isa>
void run(const Problem& problem, std::size_t first, std::size_t last, void* workspace) {
    Arena arena = {static_cast<char*>(workspace), 0};
    Graph<Isa> graph(problem, arena);
    for (std::size_t index = first; index < last; ++index) graph.pixel(index);
    graph.complete();
}

template <class Isa>
void encode(const Problem& problem, const std::int32_t* ssd, std::size_t count, std::uint8_t* codes) {
    const Exponential<Isa> exponential(problem);
    const Rounding<Isa> rounding;
    for (std::size_t first = 0; first < count; first += Isa::kLanes) {
        std::int32_t values[Isa::kLanes] = {};
        std::uint8_t results[Isa::kLanes];
        const std::size_t some = count - first < Isa::kLanes ? count - first : Isa::kLanes;
        std::memcpy(values, ssd + first, some * sizeof *ssd);
        const auto bits = rounding.bits(exponential(load_vector<typename Isa::Int>(values)));
        store_vector(results, rounding.code(bits));
        if (rounding.near_tie(bits)) look_up<Isa>(problem.table, values, results);
        std::memcpy(codes + first, results, some);
    }
}

}  // namespace ssl_data
