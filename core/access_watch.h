#pragma once
// For whoever must know when values are touched (autograd/trace.h): what a thread calls for each typed access to a tensor's memory, by
// kernels, too. It may throw. Null: nobody asks.

namespace eq {
class Tensor;

namespace detail {
inline thread_local void (*t_access_watch)(const Tensor& tensor) = nullptr;
}
}  // namespace eq
