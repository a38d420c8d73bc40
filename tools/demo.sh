#!/usr/bin/env bash
# Everything from a fresh Debian 12 machine to trained networks: installs missing packages, builds, and trains UPerNet on the
# built-in pictures without and then with scale equalizers. The last line printed is the path of what to look at.
#   tools/demo.sh [options of `equiscale demo`, e.g. --out demo --threads 2]
set -euo pipefail
cd "$(dirname "$0")/.."
tools/packages.sh
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DEQ_BUILD_TESTS=OFF >/dev/null
cmake --build build --target equiscale_app
exec ./build/equiscale demo "$@"
