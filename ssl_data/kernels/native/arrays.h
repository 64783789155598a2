// NumPy arrays as arguments, and whether they are what a function asks for.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>

namespace ssl_data {

template <class T>
using Array = pybind11::array_t<T, pybind11::array::c_style>;

inline void require(bool ok, const char* rule) {
    if (!ok) throw std::invalid_argument(rule);
}

template <class T>
bool all_below(const Array<T>& values, pybind11::ssize_t limit) {
    const auto inside = [limit](T value) { return value >= 0 && static_cast<pybind11::ssize_t>(value) < limit; };
    return std::all_of(values.data(), values.data() + values.size(), inside);
}

// For each column of a turned graph the one it comes from; an empty array for None, where they stay as they are.
inline Array<std::uint16_t> checked_columns(const pybind11::object& columns, pybind11::ssize_t num_columns) {
    if (columns.is_none()) return {};
    const auto order = columns.cast<Array<std::uint16_t>>();
    require(order.ndim() == 1 && order.size() == num_columns, "columns must have one entry per column");
    require(all_below(order, num_columns), "columns must lie in out");
    return order;
}

}  // namespace ssl_data
