#include "cuda/cudnn_conv2d.h"

#ifndef EQ_WITH_CUDNN

namespace eq::cuda {
int64_t cudnn_version() { return 0; }
bool cudnn_conv2d_forward(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&) { return false; }
bool cudnn_conv2d_backward_input(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&) { return false; }
bool cudnn_conv2d_backward_weight(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&) { return false; }
}  // namespace eq::cuda

#else

#include <cudnn.h>

#include <array>
#include <map>
#include <mutex>

#include "cuda/device.h"
#include "cuda/handle.h"
#include "cuda/pack.h"
#include "cuda/per_device.h"

namespace eq::cuda {

static void check(cudnnStatus_t status, const char* call, const char* file, int line) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char details[512] = "";
  cudnnGetLastErrorString(details, sizeof details);
  const std::string words = std::string("cuDNN: ") + cudnnGetErrorString(status) + (details[0] == '\0' ? "" : std::string("; ") + details);
  if (status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED) fail_for_memory(words, call, file, line);
  fail(words, call, file, line);
}

namespace {

constexpr size_t kLargestWorkspace = size_t{512} << 20;  // bytes
constexpr size_t kMostPlans = 4096;                      // evaluation of pictures of many sizes must not fill the memory
constexpr int kMostAlgorithms = 32;                      // cuDNN lists fewer: at most 8 per pass, per kind of arithmetic

enum class Pass { kForward, kBackwardInput, kBackwardWeight };

// Extents of a convolution as cuDNN sees it, and the key of its plan.
struct Problem {
  Pass pass;
  DType dtype;
  bool tf32;
  int n, h, w, in, out, kh, kw, p, q;
  int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
  auto operator<=>(const Problem&) const = default;
};

// False where the convolution cannot be said in cuDNN's terms.
bool describe(Pass pass, const Tensor& x, const Tensor& weight, const Tensor& y, const Conv2dOptions& o, Problem& problem) {
  for (const Tensor* tensor : {&x, &weight, &y}) {  // strides in elements are ints
    if (tensor->numel() == 0 || tensor->numel() > 0x7fffffff) return false;
    if (!on_16_bytes(tensor->raw_data())) return false;  // a view's may be odd; algorithms are chosen, once, for memory as it is allocated
  }
  for (const int64_t option : {o.stride_h, o.stride_w, o.pad_top, o.pad_left, o.dilation_h, o.dilation_w}) {
    if (option > 0x7fff) return false;  // far from any network, and from overflow in sums of ints
  }
  // cuDNN pads both ends alike. That is the same where our padding at the far end differs but no window reaches so far.
  const int64_t rows = conv_output_size(x.size(1), weight.size(1), o.stride_h, o.dilation_h, o.pad_top, o.pad_top);
  const int64_t columns = conv_output_size(x.size(2), weight.size(2), o.stride_w, o.dilation_w, o.pad_left, o.pad_left);
  if (rows != y.size(1) || columns != y.size(2)) return false;
  problem.pass = pass, problem.dtype = x.dtype(), problem.tf32 = x.dtype() == DType::kFloat32 && allow_tf32();
  problem.n = int(x.size(0)), problem.h = int(x.size(1)), problem.w = int(x.size(2)), problem.in = int(x.size(3));
  problem.out = int(weight.size(0)), problem.kh = int(weight.size(1)), problem.kw = int(weight.size(2));
  problem.p = int(y.size(1)), problem.q = int(y.size(2));
  problem.stride_h = int(o.stride_h), problem.stride_w = int(o.stride_w);
  problem.pad_h = int(o.pad_top), problem.pad_w = int(o.pad_left);
  problem.dilation_h = int(o.dilation_h), problem.dilation_w = int(o.dilation_w);
  problem.groups = int(o.groups);
  return true;
}

// What a problem is done with. Not usable: cuDNN has nothing for it.
struct Plan {
  Handle<cudnnTensorDescriptor_t, cudnnDestroyTensorDescriptor> x, y;
  Handle<cudnnFilterDescriptor_t, cudnnDestroyFilterDescriptor> weight;
  Handle<cudnnConvolutionDescriptor_t, cudnnDestroyConvolutionDescriptor> convolution;
  bool usable = false;
  int algorithm = 0;  // of the enumeration of the pass
  size_t workspace = 0;
};

// "This combination does not exist", in one of cuDNN's ways of saying so. Anything else that is not success is an error; which it gives
// where one of its kernels finds no memory to be loaded into is not said.
bool declined(cudnnStatus_t status) {
  const int category = CUDNN_STATUS_CATEGORY(status);
  return category == CUDNN_STATUS_BAD_PARAM || category == CUDNN_STATUS_NOT_SUPPORTED;
}
bool failed(cudnnStatus_t status) { return status != CUDNN_STATUS_SUCCESS && !declined(status); }

struct Library {
  explicit Library(Device device) {
    cudaStream_t stream = stream_of(device);
    const auto create = [&] { return cudnnCreate(handle.receive()); };
    check(with_room(device, create, failed), "cudnnCreate", __FILE__, __LINE__);
    EQ_CUDA_CHECK(cudnnSetStream(handle.get(), stream));
  }
  Handle<cudnnHandle_t, cudnnDestroy> handle;
  std::map<Problem, Plan> plans;
  std::mutex mutex;  // of the plans; and a handle serves one thread at a time
};

cudnnDataType_t type_of(DType dtype) {
  if (dtype == DType::kFloat64) return CUDNN_DATA_DOUBLE;
  return dtype == DType::kBFloat16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

// float32 in full precision needs FMA: the default is TF32 on tensor cores.
cudnnMathType_t math_of(const Problem& problem) {
  if (problem.dtype == DType::kBFloat16) return CUDNN_TENSOR_OP_MATH;
  return problem.dtype == DType::kFloat32 && !problem.tf32 ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH;
}

// Takes the first, by cuDNN's estimate fastest, algorithm that is deterministic, computes as asked and fits the workspace.
// The estimate is a function of the problem, nothing is timed: the choice is the same in each run.
//   query(count, &returned, results) lists them; workspace_of(algorithm, &bytes) is asked once the descriptor has the
//   algorithm's arithmetic.
template <class Performance, class Query, class WorkspaceOf>
void choose_algorithm(const Problem& problem, Plan& plan, Query&& query, WorkspaceOf&& workspace_of) {
  Performance results[kMostAlgorithms];
  int count = 0;
  const cudnnStatus_t status = query(kMostAlgorithms, &count, results);
  if (declined(status)) return;
  check(status, "the choice of a convolution's algorithm", __FILE__, __LINE__);
  for (int i = 0; i < count; ++i) {
    const Performance& result = results[i];
    if (result.status != CUDNN_STATUS_SUCCESS || result.determinism != CUDNN_DETERMINISTIC) continue;
    if (math_of(problem) == CUDNN_FMA_MATH && result.mathType != CUDNN_FMA_MATH) continue;
    EQ_CUDA_CHECK(cudnnSetConvolutionMathType(plan.convolution.get(), result.mathType));
    size_t bytes = 0;
    if (workspace_of(result.algo, &bytes) != CUDNN_STATUS_SUCCESS || bytes > kLargestWorkspace) continue;
    plan.usable = true, plan.algorithm = int(result.algo), plan.workspace = bytes;
    return;
  }
}

void choose_algorithm(cudnnHandle_t handle, const Problem& problem, Plan& plan) {
  const auto x = plan.x.get(), y = plan.y.get();
  const auto weight = plan.weight.get();
  const auto convolution = plan.convolution.get();
  switch (problem.pass) {
    case Pass::kForward:
      return choose_algorithm<cudnnConvolutionFwdAlgoPerf_t>(
          problem, plan,
          [&](int most, int* count, auto* results) {
            return cudnnGetConvolutionForwardAlgorithm_v7(handle, x, weight, convolution, y, most, count, results);
          },
          [&](auto algorithm, size_t* bytes) {
            return cudnnGetConvolutionForwardWorkspaceSize(handle, x, weight, convolution, y, algorithm, bytes);
          });
    case Pass::kBackwardInput:
      return choose_algorithm<cudnnConvolutionBwdDataAlgoPerf_t>(
          problem, plan,
          [&](int most, int* count, auto* results) {
            return cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, weight, y, convolution, x, most, count, results);
          },
          [&](auto algorithm, size_t* bytes) {
            return cudnnGetConvolutionBackwardDataWorkspaceSize(handle, weight, y, convolution, x, algorithm, bytes);
          });
    case Pass::kBackwardWeight:
      return choose_algorithm<cudnnConvolutionBwdFilterAlgoPerf_t>(
          problem, plan,
          [&](int most, int* count, auto* results) {
            return cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, x, y, convolution, weight, most, count, results);
          },
          [&](auto algorithm, size_t* bytes) {
            return cudnnGetConvolutionBackwardFilterWorkspaceSize(handle, x, y, convolution, weight, algorithm, bytes);
          });
  }
}

Plan make_plan(cudnnHandle_t handle, const Problem& c) {
  Plan plan;
  const cudnnDataType_t type = type_of(c.dtype),
                        arithmetic = c.dtype == DType::kFloat64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
  EQ_CUDA_CHECK(cudnnCreateTensorDescriptor(plan.x.receive()));
  EQ_CUDA_CHECK(cudnnSetTensor4dDescriptor(plan.x.get(), CUDNN_TENSOR_NHWC, type, c.n, c.in, c.h, c.w));
  EQ_CUDA_CHECK(cudnnCreateTensorDescriptor(plan.y.receive()));
  EQ_CUDA_CHECK(cudnnSetTensor4dDescriptor(plan.y.get(), CUDNN_TENSOR_NHWC, type, c.n, c.out, c.p, c.q));
  EQ_CUDA_CHECK(cudnnCreateFilterDescriptor(plan.weight.receive()));
  EQ_CUDA_CHECK(cudnnSetFilter4dDescriptor(plan.weight.get(), type, CUDNN_TENSOR_NHWC, c.out, c.in / c.groups, c.kh, c.kw));
  EQ_CUDA_CHECK(cudnnCreateConvolutionDescriptor(plan.convolution.receive()));
  EQ_CUDA_CHECK(cudnnSetConvolution2dDescriptor(plan.convolution.get(), c.pad_h, c.pad_w, c.stride_h, c.stride_w,
                                                c.dilation_h, c.dilation_w, CUDNN_CROSS_CORRELATION, arithmetic));
  EQ_CUDA_CHECK(cudnnSetConvolutionGroupCount(plan.convolution.get(), c.groups));
  EQ_CUDA_CHECK(cudnnSetConvolutionMathType(plan.convolution.get(), math_of(c)));
  choose_algorithm(handle, c, plan);
  cudaGetLastError();  // of what was declined: whoever asks for the last error next would be blamed for it
  return plan;
}

// Calls launch(handle, plan, workspace, alpha, beta) with the problem's plan: result = alpha * convolution + beta * result.
template <class Launch>
bool run(Device device, const Problem& problem, Launch&& launch) {
  Library& library = per_device<Library>(device);
  stream_of(device);  // makes it current
  std::lock_guard lock(library.mutex);
  auto found = library.plans.find(problem);
  if (found == library.plans.end()) {
    if (library.plans.size() >= kMostPlans) library.plans.clear();
    found = library.plans.emplace(problem, make_plan(library.handle.get(), problem)).first;
  }
  Plan& plan = found->second;
  if (!plan.usable) return false;
  // Freed at the end of this call and reused in the stream's order.
  const Tensor workspace = plan.workspace > 0 ? Tensor::empty({int64_t(plan.workspace)}, DType::kUInt8, device) : Tensor();
  const float one32 = 1, zero32 = 0;
  const double one64 = 1, zero64 = 0;
  const bool in64 = problem.dtype == DType::kFloat64;
  const auto convolve = [&] {  // writes the result only: it may be called again
    return launch(library.handle.get(), plan, plan.workspace > 0 ? workspace.raw_data() : nullptr,
                  in64 ? static_cast<const void*>(&one64) : &one32, in64 ? static_cast<const void*>(&zero64) : &zero32);
  };
  const cudnnStatus_t status = with_room(device, convolve, failed);
  if (declined(status)) {  // found out only now; nothing was queued
    cudaGetLastError();
    plan.usable = false;
    return false;
  }
  check(status, "a convolution", __FILE__, __LINE__);
  return true;
}

}  // namespace

int64_t cudnn_version() { return int64_t(cudnnGetVersion()); }

bool cudnn_conv2d_forward(const Tensor& x, const Tensor& weight, Tensor& y, const Conv2dOptions& options) {
  Problem problem;
  if (!describe(Pass::kForward, x, weight, y, options, problem)) return false;
  return run(x.device(), problem,
             [&](cudnnHandle_t handle, const Plan& plan, void* workspace, const void* alpha, const void* beta) {
               return cudnnConvolutionForward(
                   handle, alpha, plan.x.get(), x.raw_data(), plan.weight.get(), weight.raw_data(), plan.convolution.get(),
                   cudnnConvolutionFwdAlgo_t(plan.algorithm), workspace, plan.workspace, beta, plan.y.get(), y.raw_data());
             });
}

bool cudnn_conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options) {
  Problem problem;
  if (!describe(Pass::kBackwardInput, grad_x, weight, grad_y, options, problem)) return false;
  return run(grad_y.device(), problem,
             [&](cudnnHandle_t handle, const Plan& plan, void* workspace, const void* alpha, const void* beta) {
               return cudnnConvolutionBackwardData(handle, alpha, plan.weight.get(), weight.raw_data(), plan.y.get(),
                                                   grad_y.raw_data(), plan.convolution.get(),
                                                   cudnnConvolutionBwdDataAlgo_t(plan.algorithm), workspace, plan.workspace,
                                                   beta, plan.x.get(), grad_x.raw_data());
             });
}

bool cudnn_conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options) {
  Problem problem;
  if (!describe(Pass::kBackwardWeight, x, grad_weight, grad_y, options, problem)) return false;
  return run(grad_y.device(), problem,
             [&](cudnnHandle_t handle, const Plan& plan, void* workspace, const void* alpha, const void* beta) {
               return cudnnConvolutionBackwardFilter(handle, alpha, plan.x.get(), x.raw_data(), plan.y.get(),
                                                     grad_y.raw_data(), plan.convolution.get(),
                                                     cudnnConvolutionBwdFilterAlgo_t(plan.algorithm), workspace,
                                                     plan.workspace, beta, plan.weight.get(), grad_weight.raw_data());
             });
}

}  // namespace eq::cuda

#endif  // EQ_WITH_CUDNN
