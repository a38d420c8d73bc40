#pragma once
// What parameters begin with. Layers draw in their constructors; what they draw from belongs to the thread that builds them.

#include <cstdint>

#include "core/random.h"
#include "core/tensor.h"

namespace eq {

namespace init {
struct State {
  uint64_t seed = 0, next_parameter = 0, next_layer = 0;  // the latter of those that draw when they are applied
  DType dtype = DType::kFloat32;
};
}  // namespace init

// While alive, modules built on this thread draw their weights from `seed` (every parameter from the stream of its own
// creation order) and hold them in `dtype`. What layers draw later, such as the masks of dropout, follows from `seed`, too.
class InitRandom {
 public:
  explicit InitRandom(uint64_t seed, DType dtype = DType::kFloat32);
  ~InitRandom();
  InitRandom(const InitRandom&) = delete;

 private:
  init::State before_;
};

// While alive, modules built on this thread have zeros for weights: for networks that are given theirs next. Drawing tens of millions takes
// seconds.
class InitZeros {
 public:
  InitZeros();
  ~InitZeros();
  InitZeros(const InitZeros&) = delete;

 private:
  bool before_;
};

namespace init {  // the functions ending in _ throw UsageError for empty tensors; float32 and float64
DType dtype();  // of new parameters: InitRandom's
Random own_stream();  // for a layer that draws when it is applied: another one for each layer that asks, counted apart from the parameters
void normal_(Tensor& weight, double mean, double std);
void uniform_(Tensor& weight, double low, double high);
void kaiming_normal_fan_out_(Tensor& conv_weight, int64_t groups = 1);  // std = sqrt(2 / (kh*kw*O/groups)), ReLU gain
}  // namespace init

}  // namespace eq
