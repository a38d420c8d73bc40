#include <cstdio>

#include "autograd/functional.h"

int main() {
  eq::Tensor x = eq::Tensor::full({2, 3}, 2).set_requires_grad();
  sum(square(x)).backward();
  std::printf("%s\n", to_string(x.grad()).c_str());
  return x.grad().value_at(5) == 4 ? 0 : 1;
}
