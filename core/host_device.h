#pragma once
// Marks functions that both the host and the device compiler build: the index arithmetic of the operators' cards.

#ifdef __CUDACC__
#define EQ_HOST_DEVICE __host__ __device__
#else
#define EQ_HOST_DEVICE
#endif
