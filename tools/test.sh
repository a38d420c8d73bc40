#!/usr/bin/env bash
# Installs missing packages, builds everything with its tests, and runs them under CTest.
#   tools/test.sh [options of ctest, e.g. -R ops]
set -euo pipefail
cd "$(dirname "$0")/.."
tools/packages.sh chromium fonts-dejavu-core  # the browser that the report is looked at in
# Where nvcc is, the CUDA backend is built, for one architecture: that of the GPU at hand, or the newest of the default ones.
nvidia-smi >/dev/null 2>&1 && architecture=native || architecture=90
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DEQ_BUILD_TESTS=ON -DEQ_BUILD_BENCHMARKS=ON "-DCMAKE_CUDA_ARCHITECTURES=$architecture" >/dev/null
cmake --build build
# The parts that read untrusted files and manage memory, once more under the sanitizers.
cmake -S . -B build-sanitize -G Ninja -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1" \
  -DEQ_BUILD_TESTS=ON -DEQ_SANITIZE=ON -DEQ_CUDA=OFF "-DEQ_FOLDERS=core;autograd;datasets" >/dev/null
cmake --build build-sanitize
ctest --test-dir build-sanitize --output-on-failure
# The CUDA kernels' own source, run on the host: every operator against the CPU, and a network that trains.
cmake -S . -B build-simulated -G Ninja -DCMAKE_BUILD_TYPE=Release -DEQ_BUILD_TESTS=ON -DEQ_CUDA=SIMULATED \
  "-DEQ_FOLDERS=core;autograd;layers;models;datasets;training" >/dev/null
cmake --build build-simulated --target test_cuda
ctest --test-dir build-simulated --output-on-failure -R '^cuda$'
tools/check_includes
tools/count_lines
exec ctest --test-dir build --output-on-failure "$@"
