#!/usr/bin/env bash
# Installs what the build needs and what is missing: Debian / Ubuntu packages (with sudo when not root) and the pinned
# wheels of requirements-build.txt in .venv. Does nothing, and needs no network, when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(g++ make git python3 python3-venv libcli11-dev nlohmann-json3-dev libspdlog-dev libfmt-dev libgtest-dev)
missing=()
if command -v dpkg-query >/dev/null; then
    for package in "${packages[@]}"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
else
    echo "setup: not a Debian or Ubuntu system: install a C++20 compiler, CLI11, nlohmann-json, spdlog and GoogleTest yourself" >&2
fi
if ((${#missing[@]})); then
    echo "setup: installing ${missing[*]}"
    sudo=()
    if ((EUID)); then sudo=(sudo); fi
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! cmp -s requirements-build.txt .venv/requirements-build.txt; then
    echo "setup: making .venv with Halide, CMake and Ninja"
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps -r requirements-build.txt
    cp requirements-build.txt .venv/
fi
