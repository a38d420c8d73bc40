#!/usr/bin/env bash
# Installs missing packages, builds everything with its tests, and runs them under CTest: in build/ with the CUDA kernels run on
# the host (cuda_simulated) and, where there is a GPU, on it (cuda); in build-sanitize/ what reads files and manages memory.
#   tools/test.sh [options of ctest, e.g. -R ops]
set -euo pipefail
cd "$(dirname "$0")/.."
# The browser that the report is looked at in, and other people's readers of ONNX files.
tools/packages.sh chromium fonts-dejavu-core libonnx-dev libprotobuf-dev libopencv-dnn-dev
# Where nvcc is, the CUDA backend is built, for one architecture: that of the GPU at hand; or the newest of the default ones, quickly, since
# nothing will run it.
nvidia-smi >/dev/null 2>&1 && cuda=(native OFF) || cuda=(90 ON)
# A folder that is there keeps what it has: its files may be being worked on.
unity() { [ -f "$1/CMakeCache.txt" ] || echo -DEQ_UNITY=ON; }
# shellcheck disable=SC2046
cmake -S . -B build $(unity build) -G Ninja -DCMAKE_BUILD_TYPE=Release -DEQ_BUILD_TESTS=ON -DEQ_BUILD_BENCHMARKS=ON \
  "-DCMAKE_CUDA_ARCHITECTURES=${cuda[0]}" "-DEQ_CUDA_QUICK=${cuda[1]}" >/dev/null
cmake --build build
# The parts that read untrusted files and manage memory, once more under the sanitizers.
# shellcheck disable=SC2046
cmake -S . -B build-sanitize $(unity build-sanitize) -G Ninja -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1" \
  -DEQ_BUILD_TESTS=ON -DEQ_SANITIZE=ON -DEQ_CUDA=OFF "-DEQ_ONLY_FOLDERS=core;autograd;datasets" >/dev/null
cmake --build build-sanitize
ctest --test-dir build-sanitize -j2 --output-on-failure
tools/check_includes
tools/count_lines
exec ctest --test-dir build -j2 --output-on-failure "$@"
