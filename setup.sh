#!/usr/bin/env bash
# Install what is needed to run studies (or, with --dev, the tests too) into .venv beside this file.
#   ./setup.sh [--dev] [--system-torch]
#   ./setup.sh --print-torch
# torch is a build that the host's NVIDIA driver can run (--print-torch prints which and why, and
# installs nothing), or the one that the host's own Python already has (--system-torch).
# System packages come from apt and only when they are missing: numactl places processes, a C++
# compiler and Python's headers serve torch.compile, python3-venv makes the environment, chromium
# (--dev, Debian) opens pages in tests. Safe to run again. PYTHON=python3.12 ./setup.sh chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
python=${PYTHON:-python3}
requirements=requirements_hydra.txt
system_torch=no
me=setup.sh
# shellcheck source=tools/torch_choice.sh
. tools/torch_choice.sh
for argument in "$@"; do
    case $argument in
        --dev) requirements=requirements_dev.txt ;;
        --system-torch) system_torch=yes ;;
        --print-torch) choose_torch_build; exit ;;
        *) echo "usage: ./setup.sh [--dev] [--system-torch] | --print-torch" >&2; exit 2 ;;
    esac
done

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
    echo "setup.sh: needs Python 3.10 or later; set PYTHON to one (apt-get install python3)" >&2
    exit 2
}
# Before anything is installed: whether there is a torch for this host.
if [ $system_torch = yes ]; then
    torch=$(find_system_torch "$python")
    echo "setup.sh: torch: $torch of $python, used as it is"
else
    read -r torch reason < <(choose_torch_build) || exit 2
    echo "setup.sh: torch: $torch build ($reason)"
fi

missing=()
command -v numactl >/dev/null || missing+=(numactl)
command -v g++ >/dev/null || missing+=(g++)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("${python##*/}-venv")
"$python" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null ||
    missing+=("${python##*/}-dev")
# Tests open pages in it, and skip where there is none. Other systems package it differently.
if [ "$requirements" = requirements_dev.txt ] && [ "$(. /etc/os-release && echo "${ID:-}")" = debian ]; then
    command -v chromium >/dev/null || missing+=(chromium)
fi
if [ ${#missing[@]} -gt 0 ]; then
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    if ! command -v apt-get >/dev/null || { [ ${#root[@]} -gt 0 ] && ! command -v sudo >/dev/null; }; then
        echo "setup.sh: install these first, then run it again: ${missing[*]}" >&2
        exit 2
    fi
    echo "setup.sh: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    "${root[@]}" apt-get update -qq
    "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

make_environment "$python" .venv $system_torch
constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT
pip() { .venv/bin/pip install -qq --disable-pip-version-check -c "$constraints" "$@"; }
if [ $system_torch = yes ]; then
    # vit-pytorch without its requirements: the host has torch, and the models used here need no torchvision.
    without_torch_pins "$torch" >"$constraints"
    without_torch "$requirements" | pip -r /dev/stdin
    pip --no-deps vit-pytorch
    check_torch_is_kept .venv "$torch"
else
    print_constraints "$torch" >"$constraints"
    index=()
    [ "$torch" = default ] || index=(--extra-index-url "$cuda12_index")
    pip "${index[@]}" -r "$requirements"
fi
# Without a C compiler this prints one line: bandwidth of the host's memory is then not measured.
.venv/bin/python -m numa_bench.worker.memory_kernels.build || true
echo "setup.sh: ready; use .venv/bin/python"
