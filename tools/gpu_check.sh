#!/usr/bin/env bash
# Builds the CUDA backend on a machine with a GPU, and checks and measures it there, in under 9 minutes.
#   tools/gpu_check.sh --out DIR [--build DIR | --prebuilt DIR] [--seconds 530] [--only "build tests"] [--simulated]
# Writes DIR/summary.md (rewritten after each step), build.txt, tests.txt, commands.txt, kernels.md, demo.txt, train.txt, sanitizer.txt.
# Exit status 0 only if every step that ran passed. A step past its seconds is cut: what it has written stays.
# Needs the CUDA toolkit, g++ and CMake; neither network nor root. The other libraries may come from a folder made by tools/gpu_deps.sh
# (EQ_DEPS_DIR). cuDNN is taken from the toolkit, from CUDNN_ROOT or from a Python package; so are nvcc and cuBLAS where there is no toolkit.
# --prebuilt takes the programs of a folder made by tools/gpu_pack.sh and builds nothing.
# --simulated runs the same steps on the host at tiny sizes: that this script works.
# Other settings: EQ_DEMO_ITERATIONS (700), EQ_PYTHON (python3), EQ_CMAKE_ARGUMENTS (more of them).
set -uo pipefail

self=$(realpath "$0")
step_to_run=""
while [ $# -gt 0 ]; do
  case $1 in
    --out) EQ_OUT=${2:?}; shift 2 ;;
    --build) EQ_BUILD=${2:?}; shift 2 ;;
    --prebuilt) EQ_BUILD=${2:?} EQ_PREBUILT=1; shift 2 ;;
    --seconds) EQ_SECONDS=${2:?}; shift 2 ;;
    --only) EQ_ONLY=${2:?}; shift 2 ;;
    --simulated) EQ_SIMULATED=1; shift ;;
    --step) step_to_run=${2:?}; shift 2 ;;  # one step, in a process of its own: that timeout can end it
    *) sed -n '2,11s/^# \{0,1\}//p' "$self" >&2; exit 2 ;;
  esac
done
[ -n "${EQ_OUT:-}" ] || { sed -n '2,11s/^# \{0,1\}//p' "$self" >&2; exit 2; }
export EQ_SIMULATED=${EQ_SIMULATED:-0} EQ_PREBUILT=${EQ_PREBUILT:-0} EQ_PYTHON=${EQ_PYTHON:-python3}
mkdir -p "$EQ_OUT"
EQ_OUT=$(realpath "$EQ_OUT")
[ -z "${EQ_DEPS_DIR:-}" ] || EQ_DEPS_DIR=$(realpath "$EQ_DEPS_DIR")
cd "$(dirname "$self")/.." || exit
EQ_BUILD=$(realpath -m "${EQ_BUILD:-build-gpu}")
work=$EQ_BUILD/check  # what need not be kept
mkdir -p "$work"
export EQ_OUT EQ_BUILD EQ_DEPS_DIR=${EQ_DEPS_DIR:-}

note() { printf '%s\n' "$*" >"$work/$step_to_run.note"; }  # the step's line in the summary
skip() { note "$*"; exit 77; }
fail() { note "$*"; exit 1; }
simulated() { [ "$EQ_SIMULATED" = 1 ]; }

# --- where things are -------------------------------------------------------------------------------------------------------------------

# Folders named nvidia in the Python's packages.
python_nvidia() {
  "$EQ_PYTHON" -c 'import os, sys
for p in sys.path:
    p = os.path.join(p, "nvidia")
    if os.path.isdir(p): print(p)' 2>/dev/null
}
first_in() {  # first_in NAME FOLDER...: the first file of that name (a pattern)
  local name=$1
  shift
  [ $# -eq 0 ] || find -L "$@" -name "$name" -print -quit 2>/dev/null
}
find_nvcc() {
  local candidate
  for candidate in "${CUDACXX:-}" "$(command -v nvcc)" "${CUDA_PATH:-/usr/local/cuda}/bin/nvcc" /usr/local/cuda*/bin/nvcc; do
    [ -z "$candidate" ] || [ ! -x "$candidate" ] || { realpath "$candidate"; return; }
  done
  mapfile -t packages < <(python_nvidia)
  first_in nvcc "${packages[@]}"
}
# The programs' libraries. Set for our own programs only: PyTorch brings others.
ours() { LD_LIBRARY_PATH=$(cat "$work/library_path" 2>/dev/null):${LD_LIBRARY_PATH:-} OMP_WAIT_POLICY=passive "$@"; }
# Several at once, each with its comparison on the CPU.
beside() { OMP_NUM_THREADS=2 ours "$@"; }

# --- the steps --------------------------------------------------------------------------------------------------------------------------

facts() {
  {
    echo "- date: $(date -u '+%Y-%m-%d %H:%M UTC')"
    echo "- commit: $(git rev-parse HEAD 2>/dev/null && { git diff --quiet HEAD || echo '  with changes'; } || echo unknown)"
    echo "- GPU: $(nvidia-smi --query-gpu=name,compute_cap,memory.total,driver_version,clocks.max.sm,clocks.max.memory,power.limit --format=csv,noheader 2>&1)"
    echo "- nvcc: $(nvcc=$(find_nvcc); [ -n "$nvcc" ] && "$nvcc" --version | tail -2 | tr '\n' ' ' || echo none)"
    echo "- host: $(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(. /etc/os-release && echo "$PRETTY_NAME")"
    echo "- tools: $(cmake --version | head -1), $(g++ --version | head -1), ninja $(ninja --version 2>&1), $("$EQ_PYTHON" --version 2>&1)"
    if simulated; then echo "- **simulated on the host: nothing below says anything about a GPU**"; fi
  } >"$work/facts.md" 2>&1
  if ! simulated && ! nvidia-smi --query-gpu=compute_cap --format=csv,noheader >/dev/null 2>&1; then
    fail "nvidia-smi finds no GPU"
  fi
  note "see above"
}

# CUDA's own libraries: sets `libraries` (folders to look in when a program starts) and, for a build, `arguments`.
locate_cuda() {
  local nvcc toolkit packages found
  nvcc=$(find_nvcc)
  mapfile -t packages < <(python_nvidia)
  if [ -n "$nvcc" ]; then
    toolkit=$(dirname "$(dirname "$nvcc")")
    libraries+=("$toolkit/lib64" "$toolkit/lib")
  fi
  # cuBLAS of a Python package has no name without a version, and CMake looks for one.
  if [ -z "$nvcc" ] || [ -z "$(first_in 'libcublas.so' "$toolkit"/lib* "$toolkit"/targets)" ]; then
    found=$(first_in 'libcublas.so.1*' "${packages[@]}")
    [ -n "$found" ] || fail "there is no cuBLAS in ${toolkit:-a toolkit} or in a Python package"
    mkdir -p "$work/links"
    ln -sf "$found" "$work/links/libcublas.so"
    ln -sf "$(dirname "$found")/$(basename "$found" | sed s/cublas/cublasLt/)" "$work/links/libcublasLt.so"
    arguments+=("-DCUDA_cublas_LIBRARY=$work/links/libcublas.so" "-DCUDA_cublasLt_LIBRARY=$work/links/libcublasLt.so")
    libraries+=("$(dirname "$found")")
  fi
  if [ -n "$nvcc" ] && [ -z "$(first_in cublas_v2.h "$toolkit"/include "$toolkit"/targets)" ]; then
    found=$(first_in cublas_v2.h "${packages[@]}")
    [ -z "$found" ] || CPATH=$(dirname "$found")${CPATH:+:$CPATH}
    export CPATH
  fi
  # The toolkit's cuDNN is found by CMake.
  if [ -z "${CUDNN_ROOT:-}" ] && { [ -z "$nvcc" ] || [ -z "$(first_in cudnn.h "$toolkit"/include "$toolkit"/targets /usr/include)" ]; }; then
    found=$(first_in cudnn.h "${packages[@]}")
    [ -z "$found" ] || CUDNN_ROOT=$(dirname "$(dirname "$found")")
  fi
  if [ -n "${CUDNN_ROOT:-}" ]; then
    arguments+=("-DCUDNN_ROOT=$CUDNN_ROOT")
    libraries+=("$CUDNN_ROOT/lib" "$CUDNN_ROOT/lib64")
  fi
  [ "$EQ_PREBUILT" = 1 ] || [ -n "$nvcc" ] || fail "there is no nvcc on the PATH, in /usr/local/cuda or in a Python package"
}

build() {
  local arguments=(-DCMAKE_BUILD_TYPE=Release -DEQ_UNITY=ON -DEQ_CUDA_QUICK=OFF -DEQ_BUILD_TESTS=ON -DEQ_BUILD_BENCHMARKS=ON -DCMAKE_POLICY_VERSION_MINIMUM=3.5) libraries=()
  command -v ninja >/dev/null && arguments+=(-G Ninja)
  if [ "$EQ_PREBUILT" = 1 ]; then
    libraries+=("$EQ_BUILD/lib")
  elif [ -n "$EQ_DEPS_DIR" ]; then
    local arch
    arch=$(basename "$(ls -d "$EQ_DEPS_DIR"/lib/*-linux-gnu | head -1)")
    arguments+=("-DCMAKE_PREFIX_PATH=$EQ_DEPS_DIR" "-DCMAKE_LIBRARY_ARCHITECTURE=$arch")
    libraries+=("$EQ_DEPS_DIR/lib/$arch" "$EQ_DEPS_DIR/lib")
  fi
  if simulated; then
    arguments+=(-DEQ_CUDA=SIMULATED)
  else
    locate_cuda
    local capability
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d '. ')
    arguments+=(-DEQ_CUDA=ON "-DCMAKE_CUDA_COMPILER=$(find_nvcc)" "-DCMAKE_CUDA_ARCHITECTURES=$capability-real")
  fi
  (IFS=:; echo "${libraries[*]}") >"$work/library_path"
  set -x
  if [ "$EQ_PREBUILT" = 0 ]; then
    # shellcheck disable=SC2086
    cmake -S . -B "$EQ_BUILD" "${arguments[@]}" ${EQ_CMAKE_ARGUMENTS:-} || fail "CMake failed: build.txt"
    cmake --build "$EQ_BUILD" --parallel "${EQ_JOBS:-$(nproc)}" --target test_cuda cuda_bench equiscale_app || fail "the build failed: build.txt"
  fi
  ours "$EQ_BUILD/equiscale" doctor || fail "equiscale doctor failed: build.txt"
  set +x
  note "$(ours "$EQ_BUILD/equiscale" doctor | sed -n 's/^ *cuda  *//p'), $([ "$EQ_PREBUILT" = 1 ] && cat "$EQ_BUILD/built.txt" || sed -n 's/^-- CUDA backend: //p' "$EQ_OUT/build.txt" | tail -1)"
}

# The names and totals of a run of Catch, without its times.
outcome() { sed -nE 's/^[0-9.]+ s: //p; /^(All tests passed|test cases:|assertions:|No tests ran)/p' "$1" | sort; }

# An error of the device stays with its process and fails all later tests; a kernel that hangs keeps them from running. So where something
# has failed, each family runs alone, four at a time.
families_alone() {
  local family failing=()
  rm -rf "$work/families"
  mkdir "$work/families"
  for family in $(ours "$EQ_BUILD/test_cuda" --list-tags | sed -n 's/^ *[0-9]*  *\[\([a-z0-9_]*\)\]$/\1/p' | grep -vxE 'cuda|large'); do
    while [ "$(jobs -rp | wc -l)" -ge 4 ]; do sleep 0.1; done
    { beside timeout -k 2 $((EQ_STEP_SECONDS / 8)) "$EQ_BUILD/test_cuda" "[cuda][$family]" -d yes >"$work/families/$family.txt" 2>&1 || touch "$work/families/$family.failed"; } &
  done
  wait
  for family in "$work"/families/*.failed; do
    [ -e "$family" ] || continue
    failing+=("$(basename "$family" .failed)")
    { echo; echo "--- [${failing[-1]}] alone ---"; cat "${family%.failed}.txt"; } >>"$EQ_OUT/tests.txt"
  done
  same+="; in a process of their own fail: ${failing[*]:-none}"
  note "$totals; $same"
}

# Twice at once, the second time in another order: both must end alike.
tests() {
  local what="[cuda]" failed=0 most=$((EQ_STEP_SECONDS / 2))
  simulated && what=${EQ_SIMULATED_TESTS:-"[device]"}
  note "the first run did not end: tests.txt"
  beside timeout -k 2 $most "$EQ_BUILD/test_cuda" "$what" -d yes --order rand --rng-seed 2 >"$work/again.txt" 2>&1 &
  local again=$!
  beside timeout -k 2 $most "$EQ_BUILD/test_cuda" "$what" -d yes >"$EQ_OUT/tests.txt" 2>&1 || failed=1
  local totals
  totals=$(grep -E '^(All tests passed|test cases:|No tests ran)' "$EQ_OUT/tests.txt" | tail -1)
  note "${totals:=**the first run did not reach its totals**}; second run cut"
  grep -q 'SKIPPED: no CUDA device' "$EQ_OUT/tests.txt" && fail "tests were skipped: tests.txt"  # without cuDNN two are, rightly
  wait $again || failed=1
  : >"$work/tests.ran"  # the sanitizer waits for it
  local same="second run, in another order: the same"
  if ! cmp -s <(outcome "$EQ_OUT/tests.txt") <(outcome "$work/again.txt"); then
    same="**second run, in another order, ended otherwise**: the end of tests.txt"
    failed=1
    { echo; echo "--- second run ---"; cat "$work/again.txt"; } >>"$EQ_OUT/tests.txt"
  fi
  note "$totals; $same"
  [ $failed = 0 ] || families_alone
  simulated && return $failed
  note "$totals; $same; large sizes cut"
  local large="large sizes too"
  ours "$EQ_BUILD/test_cuda" "[large]" >"$work/large.txt" 2>&1 || { failed=1; large="**large sizes fail**: the end of tests.txt"; }
  ! grep -q SKIPPED "$work/large.txt" || large="no memory for large sizes"
  { echo; echo "--- large sizes ---"; cat "$work/large.txt"; } >>"$EQ_OUT/tests.txt"
  note "$totals; $same; $large"
  return $failed
}

# What else users start, what never ran on a GPU first: a run with what the demo leaves out, the networks that no other step trains, the
# demo's run. Nothing of it is timed, and what hangs keeps nothing else from running.
commands() {
  local run=$work/demo_cuda/explicit own=$work/own_run seen="" not_started="" failed=0 iterations=60 pictures=20 refresh=20 each=25 most network
  local deadline=$((SECONDS + EQ_STEP_SECONDS - 6)) shape=(--size 256 --batch 4 --steps 5) few=() small=() width=()
  simulated && iterations=2 pictures=1 refresh=1 each=750 shape=(--size 32 --batch 2 --steps 1) &&
    small=(--set model.decode_head.channels=8 --set model.auxiliary_head.channels=8) width=(--set model.backbone.multiplier=0.0625) &&
    few=(--set "pipeline.crop=[32,32]" --set train.batch_size=2 --set model.backbone.width=8)
  attempt() {  # name, command
    local name=$1 status=0
    shift
    most=$((deadline - SECONDS < each ? deadline - SECONDS : each))
    if [ $most -lt 3 ]; then
      not_started+="${not_started:+, }$name"
      return
    fi
    note "$seen$name cut"
    "$@" >"$work/command.log" 2>&1 || status=$?
    case $status in
      0) seen+="$name$(sed -n 's/^training step  */: /p' "$work/command.log"); " ;;
      124 | 137) failed=1 seen+="**$name cut after $most seconds**; " ;;
      *) failed=1 seen+="**$name failed**; " ;;
    esac
    { echo "== $* =="; cat "$work/command.log"; } >>"$EQ_OUT/commands.txt"
  }
  on_cpu() { ours timeout -k 2 "$most" "$EQ_BUILD/equiscale" "$@"; }
  on_gpu() { on_cpu "$@" --device cuda; }
  export_alike() { on_gpu export "$run" --out "$work/cuda.onnx" && on_cpu export "$run" --out "$work/cpu.onnx" && cmp "$work/cuda.onnx" "$work/cpu.onnx"; }
  : >"$EQ_OUT/commands.txt"
  rm -rf "$own" "$work/gradients"
  attempt "train with ema, ohem, dice_weight, norm_eval, nearest, refresh, flip and probes" on_gpu train recipes/shapes_upernet_resnet18.json --out "$own" "${few[@]}" "${small[@]}" \
    --set "train.iterations=$iterations" --set "data.val_images=$pictures" --set train.precision=bf16 --set equalizer.mode=explicit --set equalizer.batches=1 \
    --set "equalizer.refresh=$refresh" --set train.ema=0.9 --set train.ohem.threshold=0.7 --set train.ohem.min_kept=1000 --set train.dice_weight=0.5 \
    --set "train.norm_eval=[\"backbone.layer1\"]" --set model.upsampling=nearest --set evaluate.flip=true --set probes.every=20
  for network in swin/tiny convnext/tiny twins/svt_small; do
    attempt "bench train $network" on_gpu bench train benchmarks/upernet_swin_tiny.json "${shape[@]}" --set train.precision=bf16 \
      --set "model.backbone.type=${network%/*}" --set "model.backbone.variant=${network#*/}" "${small[@]}" "${width[@]}"
  done
  attempt recalibrate-bn on_gpu recalibrate-bn "$own" --out "$work/recalibrated.safetensors" --batches 2
  attempt summary on_gpu summary recipes/camvid_upernet_resnet18.json "${few[@]}" "${small[@]}"
  if [ -e "$run/model.safetensors" ]; then
    attempt "export as on the CPU" export_alike
    attempt "eval --tta" on_gpu eval "$run" --tta --limit $pictures
    attempt "eval --slide" on_gpu eval "$run" --slide --limit $pictures
  else
    seen+="nothing to evaluate or export: the demo's run on the GPU did not end; "
  fi
  attempt "study gradients" on_gpu study gradients recipes/shapes_upernet_resnet18.json --out "$work/gradients" --batches 4 "${few[@]}" "${small[@]}"
  note "$seen${not_started:+no time was left for $not_started}"
  [ $failed = 0 ] || return 1
  [ -z "$not_started" ] || return 124
}

kernels() {
  local arguments=(--json "$work/kernels.json") status
  simulated && arguments+=(--smoke)
  ours "$EQ_BUILD/cuda_bench" "${arguments[@]}" >"$EQ_OUT/kernels.md" 2>&1
  status=$?
  note "$(grep -c '^|' "$EQ_OUT/kernels.md") rows in kernels.md"
  [ $status -eq 0 ] || fail "cuda_bench ended with status $status: kernels.md"
}

# "0.8072 0.8070": mIoU without and with equalizers, from the log of a demo.
miou_of() { sed -nE 's/^mIoU without equalizers ([0-9.]+), with equalizers ([0-9.]+).*/\1 \2/p' "$1"; }

demo() {
  local iterations=${EQ_DEMO_ITERATIONS:-700} deadline=$((SECONDS + EQ_STEP_SECONDS - 8)) small=() names=(cpu cuda cuda_bf16) name
  simulated && iterations=${EQ_DEMO_ITERATIONS:-2} && small=(--set train.batch_size=2 --set "pipeline.crop=[32,32]" --set data.size=64 --set data.val_images=2
    --set equalizer.batches=1 --set model.backbone.width=8 --set model.decode_head.channels=8 --set model.auxiliary_head.channels=8)
  rm -rf "$work"/demo_*
  train_one() {  # name, device, more
    local name=$1 device=$2 start=$SECONDS
    shift 2
    ours timeout -k 2 $((deadline > SECONDS ? deadline - SECONDS : 1)) "$EQ_BUILD/equiscale" demo --out "$work/demo_$name" --device "$device" --set "train.iterations=$iterations" "${small[@]}" "$@" >"$work/demo_$name.log" 2>&1
    echo "$? $((SECONDS - start))" >"$work/demo_$name.end"
  }
  # The CPU beside the GPU: neither is timed here.
  train_one cpu cpu --threads $((($(nproc) + 1) / 2)) &
  { train_one cuda cuda --threads 2; train_one cuda_bf16 cuda --threads 2 --set train.precision=bf16; } &
  show() {
    {
      echo "equiscale demo, $iterations iterations; mIoU without and with equalizers"
      for name in "${names[@]}"; do
        printf '%-10s %s  (status and seconds: %s)\n' "$name" "$(miou_of "$work/demo_$name.log" 2>/dev/null)" "$(cat "$work/demo_$name.end" 2>/dev/null || echo running)"
      done
      for name in "${names[@]}"; do echo; echo "--- $name ---"; cat "$work/demo_$name.log" 2>/dev/null; done
    } >"$EQ_OUT/demo.txt"
  }
  while [ -n "$(jobs -r)" ]; do
    sleep 2
    show
    note "so far, mIoU without and with equalizers: $(for name in "${names[@]}"; do echo "$name $(miou_of "$work/demo_$name.log" 2>/dev/null)"; done | paste -sd';')"
  done
  show
  local seen="" failed=0 cut=0 ended=() other
  for name in "${names[@]}"; do
    if [ -n "$(miou_of "$work/demo_$name.log")" ]; then
      seen+="$name $(miou_of "$work/demo_$name.log"); "
      ended+=("$name")
    elif grep -qE '^(124|137) ' "$work/demo_$name.end"; then
      cut=124 seen+="$name cut; "
    else
      failed=1 seen+="**$name failed**; "
    fi
  done
  # Each with each that has ended: where the CPU's has not, the two of the GPU are left.
  for name in "${ended[@]}"; do
    for other in "${ended[@]}"; do
      [[ $name < $other ]] || continue
      paste -d' ' <(miou_of "$work/demo_$name.log") <(miou_of "$work/demo_$other.log") |
        awk '{ for (i = 1; i <= 2; ++i) { d = $i - $(i + 2); if (d > 0.02 || d < -0.02) exit 1 } if (NF != 4) exit 1 }' && continue
      failed=1 seen+="**$name and $other differ by more than 0.02**; "
    done
  done
  note "mIoU without and with equalizers: ${seen}${#ended[@]} compared, bound 0.02"
  [ $failed = 0 ] || return 1
  return $cut
}

train() {
  local wrapper=$work/equiscale failed=0 cut=0 seen="" deadline=$((SECONDS + EQ_STEP_SECONDS - 6)) most status
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%s:$LD_LIBRARY_PATH exec %s "$@"\n' "$(cat "$work/library_path" 2>/dev/null)" "$EQ_BUILD/equiscale" >"$wrapper"
  chmod +x "$wrapper"
  local steps left runs=("benchmarks/upernet_resnet50.json 512 8 float32 5" "recipes/camvid_upernet_resnet18.json 256 8 float32 10"
    "benchmarks/upernet_resnet50.json 512 8 bf16 20" "recipes/camvid_upernet_resnet18.json 256 8 bf16 20")
  simulated && runs=("recipes/camvid_upernet_resnet18.json 32 2 bf16 1")
  local torch=0
  "$EQ_PYTHON" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null && torch=1
  : >"$EQ_OUT/train.txt"
  left=${#runs[@]}
  for line in "${runs[@]}"; do
    read -r config size batch precision steps <<<"$line"
    echo "== $line ==" >>"$EQ_OUT/train.txt"
    # Half of the time for all but the last: PyTorch, which tries its algorithms first, must not take the others' (full float32 is the slowest).
    most=$(((deadline - SECONDS) / (--left > 0 ? 2 : 1)))
    simulated || [ $most -le 120 ] || most=120
    status=0
    if [ $most -lt 5 ]; then
      cut=124 seen+="no time for $(basename "$config" .json) $precision; "
      continue
    elif [ $torch = 1 ]; then
      timeout -k 2 $most "$EQ_PYTHON" benchmarks/train_step.py --equiscale "$wrapper" --config "$config" --size "$size" --batch "$batch" --classes 11 --threads 4 \
        --device cuda --precision "$precision" --rounds 1 --steps "$steps" >"$work/train.log" 2>&1 || status=$?
    else
      timeout -k 2 $most "$wrapper" bench train "$config" --size "$size" --batch "$batch" --classes 11 --steps "$steps" --device cuda --set "train.precision=$precision" >"$work/train.log" 2>&1 || status=$?
    fi
    cat "$work/train.log" >>"$EQ_OUT/train.txt"
    seen+="$(basename "$config" .json) $size $precision: $(sed -n 's/^training step  *//p' "$work/train.log")"
    case $status in
      0) seen+="; " ;;
      124 | 137) cut=124 seen+="cut after $most seconds; " ;;
      *) failed=1 seen+="**failed**; " ;;
    esac
    note "${seen}"
  done
  [ $torch = 1 ] || { echo "beside PyTorch: skipped, torch with CUDA cannot be imported" >>"$EQ_OUT/train.txt"; seen+="PyTorch skipped: torch with CUDA cannot be imported"; }
  note "$seen"
  [ $failed = 0 ] || return 1
  return $cut
}

# All four tools at once, over what step `tests` ran in under a second, without training (cuBLAS and cuDNN many times over), shortest first.
# They stand back for the demo on the CPU, which is to end in the same time.
# racecheck and initcheck leave out what tests cuBLAS and cuDNN: they report races inside those libraries' kernels, and do not see the
# stores of bulk copies, which those use.
sanitizer() {
  local tool=${EQ_SANITIZER:-$(command -v compute-sanitizer)} deadline=$((SECONDS + EQ_STEP_SECONDS - 6)) seen="" failed=0 status
  [ -n "$tool" ] || tool=$(dirname "$(find_nvcc)")/compute-sanitizer
  [ -x "$tool" ] || skip "there is no compute-sanitizer"
  [[ " $EQ_ONLY " != *" tests "* ]] || until [ -e "$work/tests.ran" ] || [ -e "$work/tests.end" ] || [ $SECONDS -ge $deadline ]; do sleep 0.5; done
  sed -nE 's/^([0-9.]+) s: (.*)/\1\t\2/p' "$EQ_OUT/tests.txt" 2>/dev/null | awk -F'\t' '$1 < 1 && !seen[$2]++' | sort -n | cut -f2 |
    grep -vxF -f <(ours "$EQ_BUILD/test_cuda" "[training]" --list-test-names-only) >"$work/names.txt"
  [ -s "$work/names.txt" ] || skip "there are no short tests in tests.txt"
  grep -vxF -f <(ours "$EQ_BUILD/test_cuda" "[matmul],[linear],[conv2d_backend]" --list-test-names-only) "$work/names.txt" >"$work/own_names.txt"
  local checks=(memcheck racecheck synccheck initcheck) check part parts left=$((deadline - SECONDS))
  [ $left -ge 5 ] || skip "no time was left after the tests"
  parts_of() { case $1 in racecheck) echo 4 ;; *) echo 2 ;; esac; }  # processes: it takes the longest
  for check in "${checks[@]}"; do
    case $check in racecheck | initcheck) cp "$work/own_names.txt" "$work/$check.names" ;; *) cp "$work/names.txt" "$work/$check.names" ;; esac
    parts=$(parts_of "$check")
    rm -f "$work/$check".[0-9].{log,status}
    for ((part = 0; part < parts; ++part)); do
      awk -v part="$part" -v parts="$parts" 'NR % parts == part' "$work/$check.names" | sed 's/,/\\,/g' >"$work/$check.$part.names"  # a comma would end a name
      (
        beside nice -n 10 timeout -k 2 $left "$tool" --tool "$check" --error-exitcode 9 --report-api-errors no \
          "$EQ_BUILD/test_cuda" -f "$work/$check.$part.names" -d yes --order decl >"$work/$check.$part.log" 2>&1
        echo $? >"$work/$check.$part.status"
      ) &
    done
  done
  wait
  : >"$EQ_OUT/sanitizer.txt"
  for check in "${checks[@]}"; do
    cat "$work/$check".[0-9].log >"$work/$check.log"
    status=$(sort -n "$work/$check".[0-9].status | tail -1)
    { echo "== $check =="; grep -E '^=+ ' "$work/$check.log" | head -60; outcome "$work/$check.log"; } >>"$EQ_OUT/sanitizer.txt"
    local done_tests
    done_tests="$(grep -cE '^[0-9.]+ s: ' "$work/$check.log") of $(grep -c . "$work/$check.names") tests"
    # Its SUMMARY: of ERRORs, or racecheck's; a run that was cut has none, but its reports.
    if [ "$(grep -cE '^=+ (ERROR|RACECHECK) SUMMARY: 0 ' "$work/$check.log")" = "$(parts_of "$check")" ] && [ "$status" -eq 0 ]; then
      seen+="$check clean ($done_tests); "
    elif grep -qE '^=+ (Error|Warning|Invalid|Uninitialized|Barrier|Race|Potential|Misaligned|Program hit)' "$work/$check.log"; then
      failed=1
      seen+="**$check reports errors** ($done_tests), $(grep -hE 'SUMMARY' "$work/$check.log" | tail -1); "
    elif [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
      seen+="$check cut after $done_tests, nothing reported; "
    else
      failed=1
      seen+="**$check: status $status** ($done_tests); "
    fi
  done
  note "$seen"
  return $failed
}

if [ -n "$step_to_run" ]; then
  case $step_to_run in
    build) build >"$EQ_OUT/build.txt" 2>&1 ;;
    *) "$step_to_run" ;;
  esac
  exit
fi

# --- all of them, one after the other ---------------------------------------------------------------------------------------------------

whole=${EQ_SECONDS:-530}
[ "$EQ_SIMULATED" = 0 ] || whole=${EQ_SECONDS:-36000}
export EQ_ONLY=${EQ_ONLY:-facts build tests demo sanitizer commands kernels train}
rows=() status_of_all=0 built=1
summary() {
  {
    echo "# Check on a GPU"
    echo
    cat "$work/facts.md" 2>/dev/null
    echo
    echo "| step | result | seconds | seen |"
    echo "|---|---|---:|---|"
    printf '%s\n' "${rows[@]}"
    if [ -s "$EQ_OUT/train.txt" ]; then printf '\n## Training\n\n```\n'; cat "$EQ_OUT/train.txt"; echo '```'; fi
    if [ -s "$EQ_OUT/tests.txt" ] && grep -q FAILED "$EQ_OUT/tests.txt"; then
      printf '\n## Tests that failed\n\n```\n'; grep -B12 -A6 FAILED "$EQ_OUT/tests.txt" | head -150; echo '```'
    fi
    if [ -s "$EQ_OUT/kernels.md" ]; then printf '\n## Kernels\n\n'; cat "$EQ_OUT/kernels.md"; fi
  } >"$EQ_OUT/summary.new"
  mv "$EQ_OUT/summary.new" "$EQ_OUT/summary.md"
}
step() {  # name, seconds at most; several names: all at once, for what is not timed
  local limit=${*: -1} names=() name
  for name in "${@:1:$#-1}"; do
    case " $EQ_ONLY facts " in *" $name "*) names+=("$name") ;; esac
  done
  [ "$EQ_SIMULATED" = 0 ] || limit=$((limit * 30))
  [ $((whole - SECONDS)) -ge "$limit" ] || limit=$((whole - SECONDS))
  for name in "${names[@]}"; do
    rm -f "$work/$name".{note,ran,end}
    if [ $built = 0 ]; then
      echo "nothing was built" >"$work/$name.note"
      echo "not_run 0" >"$work/$name.end"
    elif [ "$limit" -lt 5 ]; then
      echo "no time was left" >"$work/$name.note"
      echo "124 0" >"$work/$name.end"
    else
      (
        start=$SECONDS
        EQ_STEP_SECONDS=$limit timeout -k 3 "$limit" bash "$self" --out "$EQ_OUT" --build "$EQ_BUILD" --step "$name"
        echo "$? $((SECONDS - start))" >"$work/$name.end"
      ) &
    fi
  done
  wait
  local status seconds result
  for name in "${names[@]}"; do
    read -r status seconds <"$work/$name.end"
    case $status in
      0) result=pass ;;
      77) result=skipped ;;
      not_run) result="not run" ;;
      124 | 137) result="cut"; status_of_all=1 ;;
      *) result="**fail**"; status_of_all=1 ;;
    esac
    rows+=("| $name | $result | $seconds | $(tr '\n|' ' /' 2>/dev/null <"$work/$name.note") |")
    case $name/$result in facts/*fail* | build/*fail* | build/cut) built=0 ;; esac
    echo "${rows[-1]}"
  done
  summary
}
rm -f "$EQ_OUT"/{build,tests,demo,commands,train,sanitizer}.txt "$EQ_OUT"/kernels.{md,json}
step facts 15
step build 230
step tests demo sanitizer 170
step commands 120
step kernels 60
step train 300
echo "$EQ_OUT/summary.md"
exit $status_of_all
