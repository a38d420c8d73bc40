#!/usr/bin/env bash
# Installs the Debian packages that the build needs and that are missing. Sourced or run by demo.sh and test.sh.
set -euo pipefail
packages=(g++ cmake ninja-build libeigen3-dev libjpeg62-turbo-dev libpng-dev zlib1g-dev libzip-dev libstb-dev libssl-dev libcli11-dev
  nlohmann-json3-dev libfmt-dev catch2 libbenchmark-dev "$@")
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}"
  sudo=""
  [ "$(id -u)" -eq 0 ] || sudo="sudo"
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
