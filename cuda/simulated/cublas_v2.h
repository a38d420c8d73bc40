#pragma once
// The part of cuBLAS that cuda/gemm.cu uses, as plain loops on the host: for EQ_CUDA=SIMULATED. Column-major, sums in float
// (of bfloat16 and float32) or double in the order of k, rounded once. What cuBLAS would refuse is refused, so that a wrong
// call shows here.

#include <cuda_runtime.h>

#include <vector>

#include "core/bfloat16.h"

enum cublasStatus_t {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_NOT_INITIALIZED = 1,
  CUBLAS_STATUS_ALLOC_FAILED = 3,
  CUBLAS_STATUS_INVALID_VALUE = 7
};
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cublasAtomicsMode_t { CUBLAS_ATOMICS_NOT_ALLOWED, CUBLAS_ATOMICS_ALLOWED };
enum cublasMath_t { CUBLAS_DEFAULT_MATH = 0, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION = 16 };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_64F = 70, CUBLAS_COMPUTE_32F_FAST_TF32 = 77 };
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT = -1 };
enum cudaDataType { CUDA_R_32F = 0, CUDA_R_64F = 1, CUDA_R_16BF = 14 };

struct SimulatedCublas {
  int device = -1;
  bool has_workspace = false;
};
using cublasHandle_t = SimulatedCublas*;

inline const char* cublasGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_INVALID_VALUE ? "an unsupported value or parameter was passed to the function"
                                               : "simulated error";
}
inline cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  if (simulated_full) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new SimulatedCublas{simulated_current_device};
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t) {
  handle->has_workspace = false;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, size_t) {
  if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0) return CUBLAS_STATUS_INVALID_VALUE;
  handle->has_workspace = true;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasSetAtomicsMode(cublasHandle_t, cublasAtomicsMode_t) { return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }

namespace eq::cuda::simulated {

// c (m x n) = a (m x k) * b (k x n) + beta * c, column-major with the column lengths lda, ldb, ldc.
template <class T, class Result, class Sum>
void column_major_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb,
                       Sum beta, Result* c, int64_t ldc) {
  std::vector<Sum> columns(size_t(m * k)), column(static_cast<size_t>(m));  // of op(a), side by side
  for (int64_t p = 0; p < k; ++p) {
    for (int64_t i = 0; i < m; ++i) columns[size_t(p * m + i)] = Sum(ta ? a[p + i * lda] : a[i + p * lda]);
  }
  for (int64_t j = 0; j < n; ++j) {
    column.assign(size_t(m), Sum(0));
    for (int64_t p = 0; p < k; ++p) {
      const Sum factor = Sum(tb ? b[j + p * ldb] : b[p + j * ldb]);
      for (int64_t i = 0; i < m; ++i) column[size_t(i)] += columns[size_t(p * m + i)] * factor;
    }
    for (int64_t i = 0; i < m; ++i) {
      Result& place = c[i + j * ldc];  // not read where beta is 0: it may hold NaN
      place = Result(beta == 0 ? column[size_t(i)] : column[size_t(i)] + beta * Sum(place));
    }
  }
}

}  // namespace eq::cuda::simulated

inline cublasStatus_t cublasGemmStridedBatchedEx_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                                                    int64_t m, int64_t n, int64_t k, const void* alpha, const void* a,
                                                    cudaDataType type_a, int64_t lda, long long stride_a, const void* b,
                                                    cudaDataType type_b, int64_t ldb, long long stride_b, const void* beta,
                                                    void* c, cudaDataType type_c, int64_t ldc, long long stride_c,
                                                    int64_t batch, cublasComputeType_t arithmetic, cublasGemmAlgo_t) {
  if (handle == nullptr || !handle->has_workspace || handle->device != simulated_current_device) {
    return CUBLAS_STATUS_NOT_INITIALIZED;
  }
  if (simulated_full) return CUBLAS_STATUS_ALLOC_FAILED;
  const bool ta = op_a == CUBLAS_OP_T, tb = op_b == CUBLAS_OP_T;
  const auto least = [](int64_t rows) { return rows > 1 ? rows : 1; };
  if (m < 0 || n < 0 || k < 0 || batch < 0 || lda < least(ta ? k : m) || ldb < least(tb ? n : k) || ldc < least(m) ||
      type_a != type_b || (type_a == CUDA_R_64F) != (arithmetic == CUBLAS_COMPUTE_64F) ||
      (type_c != type_a && !(type_a == CUDA_R_16BF && type_c == CUDA_R_32F)) || (batch > 1 && stride_c < m * n)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const eq::cuda::simulated::DeviceAccess access;
  auto run = [&]<class T, class Result, class Sum>(T, Result, Sum) {
    if (*static_cast<const Sum*>(alpha) != 1) return CUBLAS_STATUS_INVALID_VALUE;  // not needed here
    for (int64_t i = 0; i < batch; ++i) {
      eq::cuda::simulated::column_major_gemm(ta, tb, m, n, k, static_cast<const T*>(a) + i * stride_a, lda,
                                             static_cast<const T*>(b) + i * stride_b, ldb, *static_cast<const Sum*>(beta),
                                             static_cast<Result*>(c) + i * stride_c, ldc);
    }
    return CUBLAS_STATUS_SUCCESS;
  };
  if (type_a == CUDA_R_64F) return run(double(), double(), double());
  if (type_a == CUDA_R_32F) return run(float(), float(), float());
  return type_c == CUDA_R_32F ? run(eq::bfloat16(0), float(), float()) : run(eq::bfloat16(0), eq::bfloat16(0), float());
}

inline cublasStatus_t cublasGemmEx_64(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int64_t m,
                                      int64_t n, int64_t k, const void* alpha, const void* a, cudaDataType type_a,
                                      int64_t lda, const void* b, cudaDataType type_b, int64_t ldb, const void* beta,
                                      void* c, cudaDataType type_c, int64_t ldc, cublasComputeType_t arithmetic,
                                      cublasGemmAlgo_t algorithm) {
  return cublasGemmStridedBatchedEx_64(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c,
                                       type_c, ldc, 0, 1, arithmetic, algorithm);
}
