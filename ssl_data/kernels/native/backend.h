// The functions of a Backend (see problem.h), for an instruction set described by Isa.
#pragma once

#include "graph.h"

namespace ssg {

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
}

template <class Isa>
void encode(const Problem& problem, const std::int32_t* ssd, std::size_t count, std::uint8_t* codes) {
    for (std::size_t first = 0; first < count; first += Isa::kLanes) {
        typename Isa::Int lanes = {};
        const std::size_t some = count - first < Isa::kLanes ? count - first : Isa::kLanes;
        for (std::size_t i = 0; i < some; ++i) lanes[i] = ssd[first + i];
        finish_codes<Isa>(problem, static_cast<std::ptrdiff_t>(some), codes + first,
                          [&](std::ptrdiff_t) SSG_LAMBDA { return lanes; });
    }
}

}  // namespace ssg
