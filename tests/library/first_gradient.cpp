// README.md's first lines.
#include "programs.h"

#include "autograd/functional.h"

void first_gradient(const std::filesystem::path&) {
  eq::Tensor x = eq::Tensor::full({2, 3}, 2).set_requires_grad();
  sum(square(x)).backward();
  x.grad();  // 4 everywhere
  expect(x.grad().value_at(5) == 4, "the gradient is 4");
}
