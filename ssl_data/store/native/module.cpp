#include <pybind11/pybind11.h>

namespace ssl_data {
void add_blosc(pybind11::module_& module);
void add_gradient(pybind11::module_& module);
}  // namespace ssl_data

PYBIND11_MODULE(_native, module) {
    module.doc() = "Decoding of chunks, compiled; called through ssl_data.store.blosc and ssl_data.store.gradient.";
    ssl_data::add_blosc(module);
    ssl_data::add_gradient(module);
}
