#!/usr/bin/env bash
# Install what is needed to run studies (or, with --dev, the tests too) into .venv beside this file.
#   ./setup.sh [--dev]
# System packages come from apt and only when they are missing: numactl places processes, a C++
# compiler and Python's headers serve torch.compile, python3-venv makes the environment, chromium
# (--dev, Debian) opens pages in tests. Safe to run again. PYTHON=python3.12 ./setup.sh chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
python=${PYTHON:-python3}
requirements=requirements_hydra.txt
case ${1:-} in
    '') ;;
    --dev) requirements=requirements_dev.txt ;;
    *) echo "usage: ./setup.sh [--dev]" >&2; exit 2 ;;
esac

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
    echo "setup.sh: needs Python 3.10 or later; set PYTHON to one (apt-get install python3)" >&2
    exit 2
}

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

[ -x .venv/bin/pip ] || "$python" -m venv .venv
.venv/bin/pip install -qq --disable-pip-version-check -r "$requirements" -c constraints.txt
echo "setup.sh: ready; use .venv/bin/python"
