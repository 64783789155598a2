// Working while other Python threads run.
#pragma once

#include <Python.h>

namespace ssl_data {

// As long as it lives, this thread does not hold the interpreter's lock and touches no Python object.
//
// When Python ends while a thread is here, it ends the thread as soon as that asks for the lock: by unwinding it, like an
// exception that nobody catches. A destructor that lets no exception out (pybind11's gil_scoped_release has such a one)
// would end the whole process with an abort in place of its exit code.
class Unlocked {
   public:
    Unlocked() : state_(PyEval_SaveThread()) {}
    ~Unlocked() noexcept(false) { PyEval_RestoreThread(state_); }
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;

   private:
    PyThreadState* state_;
};

}  // namespace ssl_data
