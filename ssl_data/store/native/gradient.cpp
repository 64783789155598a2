// The way back from differences to codes: what ssl_data.store.gradient does in NumPy, in one pass over each graph.
//
// A value is the sum of the differences of its own line up to it, plus the value above. Sums are modulo 256, so that
// they are exact whatever the differences are.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "../../kernels/native/unlocked.h"

namespace py = pybind11;

namespace ssl_data {
namespace {

void restore_graph(std::uint8_t* values, std::size_t side) {
    for (std::size_t row = 0; row < side; ++row, values += side) {
        std::uint8_t sum = 0;
        for (std::size_t col = 0; col < side; ++col) {
            sum = static_cast<std::uint8_t>(sum + values[col]);
            values[col] = row == 0 ? sum : static_cast<std::uint8_t>(sum + *(values + col - side));
        }
    }
}

void restore(py::array_t<std::uint8_t, py::array::c_style>& graphs, std::size_t side) {
    if (graphs.ndim() != 2 || static_cast<std::size_t>(graphs.shape(1)) != side * side) {
        throw std::invalid_argument("graphs must have shape (n, side * side)");
    }
    std::uint8_t* first = graphs.mutable_data();
    const std::size_t count = graphs.shape(0);
    const Unlocked unlocked;
    for (std::size_t index = 0; index < count; ++index) restore_graph(first + index * side * side, side);
}

}  // namespace

void add_gradient(py::module_& module) {
    module.def("restore", restore, py::arg("graphs").noconvert(), py::arg("side"),
               "Turn differences (n, side * side) into the codes they came from, in place.");
}

}  // namespace ssl_data
