#!/usr/bin/env bash
# Puts the programs that tools/gpu_check.sh runs, with the libraries they need, in one folder to be carried to a machine with a GPU.
#   tools/gpu_pack.sh BUILD DIR          BUILD: a build folder with test_cuda, cuda_bench and equiscale, not that of tools/test.sh, whose
#                                        kernels are compiled quickly where no GPU is there to run them (EQ_CUDA_QUICK)
#   tools/gpu_check.sh --prebuilt DIR --out results      (there)
# The C and C++ libraries and the processor (EQ_ARCH) there must be as new as here; CUDA's libraries are that machine's own.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
build=$1
[ -f "$build/CMakeCache.txt" ] || { echo "error: $build is no build folder" >&2; exit 2; }
case $(cached EQ_CUDA_QUICK) in
  ON|1|TRUE|YES)
    echo "error: the kernels in $build are compiled quickly, with few optimizations (EQ_CUDA_QUICK): build in another folder, without it" >&2
    exit 2 ;;
esac
mkdir -p "$2/lib"
for program in test_cuda cuda_bench equiscale; do
  strip -o "$2/$program" "$1/$program"
  ldd "$1/$program" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | grep -vE '/(libc|libm|libdl|librt|libpthread|libcuda|libcublas|libcublasLt|libcudnn[a-z_]*|libstdc\+\+|libgcc_s)\.so'
done | sort -u | while read -r library; do cp -L "$library" "$2/lib/"; done
echo "built elsewhere: $(cached CMAKE_BUILD_TYPE), for $(cached CMAKE_CUDA_ARCHITECTURES), EQ_ARCH=$(cached EQ_ARCH)" >"$2/built.txt"
du -sh --apparent-size "$2"
