#include "layers/init.h"

#include <cmath>
#include <utility>

#include "autograd/node.h"
#include "core/errors.h"
#include "core/parallel.h"

namespace eq {
namespace {

thread_local init::State t_init;
thread_local bool t_zeros = false;

}  // namespace

InitRandom::InitRandom(uint64_t seed, DType dtype) : before_(std::exchange(t_init, {.seed = seed, .dtype = dtype})) {}
InitRandom::~InitRandom() { t_init = before_; }

InitZeros::InitZeros() : before_(std::exchange(t_zeros, true)) {}
InitZeros::~InitZeros() { t_zeros = before_; }

namespace init {
namespace {

// `draw` takes half a block of random numbers for each element (normal() and uniform() do), so chunks can start where they are.
template <class Draw>
void fill(Tensor& weight, Draw draw) {
  if (weight.numel() == 0) throw UsageError("a weight without elements cannot be initialised", "init", "check the channel counts");
  NoGradGuard no_grad;
  const uint64_t stream = t_init.next_parameter++;
  if (t_zeros) {
    weight.fill_(0);
    return;
  }
  const Random start = Random(t_init.seed, 0x1217).fork(stream);
  constexpr int64_t kChunk = 1 << 14;
  dispatch_floating(weight.dtype(), "init", [&]<typename T>() {
    T* out = weight.data<T>();
    parallel_for(weight.numel(), kChunk, [&](int64_t begin, int64_t end) {
      Random random = start;
      random.seek_block(uint64_t(begin) / 2);
      for (int64_t i = begin; i < end; ++i) out[i] = T(draw(random));
    });
  });
  weight.bump_version();
}

}  // namespace

DType dtype() { return t_init.dtype; }

Random own_stream() { return Random(t_init.seed, 0xD207).fork(t_init.next_layer++); }

void normal_(Tensor& weight, double mean, double std) {
  fill(weight, [=](Random& random) { return mean + std * random.normal(); });
}

void uniform_(Tensor& weight, double low, double high) {
  fill(weight, [=](Random& random) { return random.uniform(low, high); });
}

void kaiming_normal_fan_out_(Tensor& conv_weight, int64_t groups) {
  const double fan_out = double(conv_weight.shape().product(0, 3)) / double(groups);
  normal_(conv_weight, 0, std::sqrt(2 / fan_out));
}

}  // namespace init
}  // namespace eq
