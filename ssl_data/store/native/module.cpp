#include <pybind11/pybind11.h>

namespace ssl_data {
void add_blocks(pybind11::module_& module);
void add_blosc(pybind11::module_& module);
void add_gradient(pybind11::module_& module);
void add_graphs(pybind11::module_& module);
void add_tiles(pybind11::module_& module);
}  // namespace ssl_data

PYBIND11_MODULE(_native, module) {
    module.doc() = "Chunks, encoded, decoded and checked by compiled code; called through ssl_data.store.";
    ssl_data::add_blocks(module);
    ssl_data::add_blosc(module);
    ssl_data::add_gradient(module);
    ssl_data::add_graphs(module);
    ssl_data::add_tiles(module);
}
