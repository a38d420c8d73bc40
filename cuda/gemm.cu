#include "cuda/gemm.h"

#include <cublas_v2.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "cuda/bias.h"
#include "cuda/device.h"
#include "cuda/handle.h"
#include "cuda/per_device.h"

namespace eq::cuda {

static void check(cublasStatus_t status, const char* call, const char* file, int line) {
  if (status == CUBLAS_STATUS_ALLOC_FAILED) fail_for_memory("cuBLAS has no memory for itself", call, file, line);
  if (status != CUBLAS_STATUS_SUCCESS) fail(std::string("cuBLAS: ") + cublasGetStatusString(status), call, file, line);
}

namespace {

// Which code cuBLAS gives where one of its kernels finds no memory to be loaded into is not said.
bool failed(cublasStatus_t status) { return status != CUBLAS_STATUS_SUCCESS; }

// What NVIDIA recommends for Hopper. More would be given to sums split along k, whose parts lie here.
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
constexpr int64_t kLargestBatch = 65535;  // of a call: some of cuBLAS's kernels put the batch on a grid's z axis

std::atomic<bool> tf32_allowed{false};

struct Library {
  explicit Library(Device device)
      : stream(stream_of(device)), workspace(Tensor::empty({kWorkspaceBytes}, DType::kUInt8, device)) {
    const auto create = [&] { return cublasCreate(handle.receive()); };
    check(with_room(device, create, failed), "cublasCreate", __FILE__, __LINE__);
    EQ_CUDA_CHECK(cublasSetStream(handle.get(), stream));  // before the workspace, which it would take away
    EQ_CUDA_CHECK(cublasSetWorkspace(handle.get(), workspace.raw_data(), size_t(kWorkspaceBytes)));
    EQ_CUDA_CHECK(cublasSetAtomicsMode(handle.get(), CUBLAS_ATOMICS_NOT_ALLOWED));
    // The parts of a split sum are kept in float32, not in the type of the result.
    EQ_CUDA_CHECK(cublasSetMathMode(handle.get(),
                                    cublasMath_t(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)));
  }
  cudaStream_t stream;
  Tensor workspace;
  Handle<cublasHandle_t, cublasDestroy> handle;
  std::mutex mutex;  // a handle serves one thread at a time
};

cudaDataType type_of(DType dtype) {
  if (dtype == DType::kFloat64) return CUDA_R_64F;
  return dtype == DType::kBFloat16 ? CUDA_R_16BF : CUDA_R_32F;
}

cublasComputeType_t arithmetic_of(DType dtype) {
  if (dtype == DType::kFloat64) return CUBLAS_COMPUTE_64F;
  return dtype == DType::kFloat32 && tf32_allowed ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

void check_types(const Tensor& a, const Tensor& b, const Tensor& c) {
  const bool known = a.dtype() == DType::kFloat32 || a.dtype() == DType::kFloat64 || a.dtype() == DType::kBFloat16;
  if (!known || b.dtype() != a.dtype() || (c.dtype() != a.dtype() && c.dtype() != parameter_type(a.dtype()))) {
    throw DTypeError(
        std::string("a product of ") + name_of(a.dtype()) + " and " + name_of(b.dtype()) + " into " + name_of(c.dtype()),
        "cuda::gemm", "both factors must be of one floating type");
  }
}

char* place(const Tensor& tensor, int64_t elements) {
  return static_cast<char*>(tensor.raw_data()) + elements * int64_t(size_of(tensor.dtype()));
}

}  // namespace

void set_allow_tf32(bool allow) { tf32_allowed = allow; }
bool allow_tf32() { return tf32_allowed; }

void gemm(const Gemm& p, const Tensor& a, const Tensor& b, Tensor& c) {
  check_types(a, b, c);
  if (p.m == 0 || p.n == 0 || p.batch == 0) return;
  cudaStream_t stream = stream_of(c.device());
  if (p.k == 0) {  // an empty sum; 0 has no bits set in any of the types
    if (p.bias.defined()) return write_bias(p.bias, c);
    const size_t bytes = size_t(p.m * p.n) * size_of(c.dtype());
    for (int64_t i = 0; i < p.batch; ++i) {
      EQ_CUDA_CHECK(cudaMemsetAsync(place(c, p.offset_c + i * p.stride_c), 0, bytes, stream));
    }
    return;
  }
  // cuBLAS is column-major: it reads each matrix as its transpose. c^T = op(b)^T * op(a)^T.
  const cublasOperation_t op_a = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, op_b = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const int64_t row_a = p.transpose_a ? p.m : p.k, row_b = p.transpose_b ? p.k : p.n;
  const cudaDataType type = type_of(a.dtype()), type_c = type_of(c.dtype());
  const cublasComputeType_t arithmetic = arithmetic_of(a.dtype());
  // Scalars are of the arithmetic's type.
  const double one64 = 1, beta64 = p.bias.defined() ? 1 : 0;
  const float one32 = 1, beta32 = p.bias.defined() ? 1 : 0;
  const bool in64 = a.dtype() == DType::kFloat64;
  const void *alpha = in64 ? static_cast<const void*>(&one64) : &one32,
             *beta = in64 ? static_cast<const void*>(&beta64) : &beta32;
  Library& library = per_device<Library>(c.device());
  std::lock_guard lock(library.mutex);
  if (p.batch == 1) {
    const auto product = [&] {
      if (p.bias.defined()) write_bias(p.bias, c);  // here: what is added to is laid down again where cuBLAS is called again
      return cublasGemmEx_64(library.handle.get(), op_b, op_a, p.n, p.m, p.k, alpha, place(b, p.offset_b), type, row_b,
                             place(a, p.offset_a), type, row_a, beta, place(c, p.offset_c), type_c, p.n, arithmetic, CUBLAS_GEMM_DEFAULT);
    };
    return check(with_room(c.device(), product, failed), "cublasGemmEx_64", __FILE__, __LINE__);
  }
  for (int64_t first = 0; first < p.batch; first += kLargestBatch) {
    const auto products = [&] {
      return cublasGemmStridedBatchedEx_64(
          library.handle.get(), op_b, op_a, p.n, p.m, p.k, alpha, place(b, p.offset_b + first * p.stride_b), type, row_b, p.stride_b,
          place(a, p.offset_a + first * p.stride_a), type, row_a, p.stride_a, beta, place(c, p.offset_c + first * p.stride_c), type_c, p.n,
          p.stride_c, std::min(kLargestBatch, p.batch - first), arithmetic, CUBLAS_GEMM_DEFAULT);
    };
    check(with_room(c.device(), products, failed), "cublasGemmStridedBatchedEx_64", __FILE__, __LINE__);
  }
}

}  // namespace eq::cuda
