#pragma once
// What the compiler's vector extension does badly: comparisons and selections of vectors that are longer than the machine's registers are taken apart into
// single elements (GCC 12), ten times as slow as in registers. Arithmetic is not.

#include <cstring>
#include <type_traits>
#include <utility>

namespace eq::cpu {

#if defined(__AVX512F__)
inline constexpr size_t kRegisterBytes = 64;
#elif defined(__AVX__)
inline constexpr size_t kRegisterBytes = 32;
#else
inline constexpr size_t kRegisterBytes = 16;
#endif

namespace detail {
template <class V>
struct HalfOf {
  using Element = std::remove_reference_t<decltype(std::declval<V&>()[0])>;
  typedef Element type __attribute__((vector_size(sizeof(V) / 2)));
};
template <class V>
using Half = typename HalfOf<V>::type;

template <class V>
inline Half<V> half(const V& v, int which) {
  Half<V> part;
  std::memcpy(&part, reinterpret_cast<const char*>(&v) + which * sizeof part, sizeof part);
  return part;
}
}  // namespace detail

// fn(arguments...), lane by lane the same function of vectors of any length, computed in registers. The arguments have the result's size.
template <class V, class Fn, class... Vs>
inline V by_registers(const Fn& fn, const Vs&... arguments) {
  static_assert(((sizeof(Vs) == sizeof(V)) && ...));
  if constexpr (sizeof(V) <= kRegisterBytes) {
    return fn(arguments...);
  } else {
    using Half = detail::Half<V>;
    const Half halves[2] = {by_registers<Half>(fn, detail::half(arguments, 0)...), by_registers<Half>(fn, detail::half(arguments, 1)...)};
    V result;
    std::memcpy(&result, halves, sizeof result);
    return result;
  }
}

}  // namespace eq::cpu
