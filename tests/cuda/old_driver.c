/* A CUDA driver of version 11.0, as far as the CUDA runtime asks before it gives up: libcuda.so.1 for the test old_driver. */
int cuDriverGetVersion(int* version) { return *version = 11000, 0; }
int cuInit(unsigned flags) { return (int)flags; }
