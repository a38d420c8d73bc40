#!/usr/bin/env bash
# Collects the Debian packages that the build needs, with their run-time libraries, in one folder that can be carried to a machine
# without network or root. Nothing is installed. Needs apt's lists (apt-get update).
#   tools/gpu_deps.sh DIR [package...]     (more packages, e.g. libbenchmark-dev)
#   cmake -S . -B build -DCMAKE_PREFIX_PATH=DIR ...       or       EQ_DEPS_DIR=DIR tools/gpu_check.sh --out results
# The compiler, CMake, Ninja and the CUDA toolkit are that machine's own. Its C library must be as new as this machine's.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
to=$(cd "$1" && pwd)
shift
[ -z "$(ls -A "$to")" ] || { echo "$to is not empty: name a new folder" >&2; exit 2; }
packages=(libeigen3-dev libjpeg62-turbo-dev libpng-dev zlib1g-dev libzip-dev libstb-dev libssl-dev libcli11-dev nlohmann-json3-dev libfmt-dev catch2 "$@")
# Each with the libraries it names, and those that these name, but for the compiler's.
declare -A known=()
for ((i = 0; i < ${#packages[@]}; ++i)); do
  known[${packages[i]}]=1
  while read -r name; do [ -n "${known[$name]:-}" ] || packages+=("$name"); done < <(apt-cache depends --important "${packages[i]}" |
    sed -n 's/^ *Depends: \(lib[^<>]*\|zlib1g\)$/\1/p' | grep -vE '^(libc6|libc-dev|libgcc|libstdc)|-dev(-bin)?$')
done
mapfile -t packages < <(printf '%s\n' "${!known[@]}" | sort)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$scratch" && apt-get download -qq "${packages[@]}")
for deb in "$scratch"/*.deb; do dpkg -x "$deb" "$scratch/root"; done
arch=$(basename "$(ls -d "$scratch"/root/usr/lib/*-linux-gnu)")
# One tree, as under /usr; headers of the architecture beside the others, since only the system's compiler looks for them elsewhere.
for part in usr lib; do
  [ -d "$scratch/root/$part" ] || continue
  [ "$part" = usr ] && target=$to || target=$to/lib
  mkdir -p "$target"
  cp -a "$scratch/root/$part/." "$target/"
done
if [ -d "$to/include/$arch" ]; then
  cp -a "$to/include/$arch/." "$to/include/"
  rm -r "${to:?}/include/$arch"
fi
rm -rf "$to"/bin "$to"/share/{doc,man,lintian,bug,doc-base,pkgconfig,Catch2} "$to"/lib/$arch/{pkgconfig,engines-3,ossl-modules} "$to"/lib/pkgconfig
find "$to" -name '*.a' | while read -r archive; do  # a shared one does
  [ ! -e "${archive%.a}.so" ] && [ ! -L "${archive%.a}.so" ] || rm "$archive"
done
# /lib/x86_64-linux-gnu/libz.so.1 -> the same file in here.
find "$to" -type l | while read -r link; do
  target=$(readlink "$link")
  case $target in
    /usr/*) target=$to/${target#/usr/} ;;
    /*) target=$to/${target#/} ;;
    *) continue ;;
  esac
  ln -sfn "$(realpath -m --relative-to="$(dirname "$link")" "$target")" "$link"
done
find "$to" -xtype l -delete  # of files left out
find "$to" -type d -empty -delete
if grep -rlE '"?/usr/(include|lib|share)' --include='*.cmake' "$to" | xargs -r grep -nE 'set_target_properties|INTERFACE_INCLUDE|IMPORTED_LOCATION' |
  grep -E '"/usr/'; then
  echo "these lines name the system's folders: the prefix is not complete" >&2
  exit 1
fi
printf '%s\n' "${packages[@]}" >"$to/packages.txt"
echo "$(du -sh --apparent-size "$to" | cut -f1) in $to, from ${#packages[@]} packages (packages.txt)"
echo "use: cmake -DCMAKE_PREFIX_PATH=$to -DCMAKE_LIBRARY_ARCHITECTURE=$arch ...  or  EQ_DEPS_DIR=$to tools/gpu_check.sh --out results"
