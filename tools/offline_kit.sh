#!/usr/bin/env bash
# Make a kit that installs numa_bench on a host without network (Linux, x86-64): its own wheel, wheels
# of everything in requirements_hydra.txt as constraints.txt pins it, numactl's .deb packages, an
# install.sh that uses no index, and a MANIFEST with checksums.
#   tools/offline_kit.sh OUTDIR [--python 3.12] [--without torch,mlflow] [--torch cu126]
# --python: the host's Python (default: this one's). --without: requirements to leave out, with what
# only they need. --torch cu126: the CUDA 12 build of torch, for a driver older than 580. Needs
# network and pip (PYTHON=python3.12 chooses whose), and apt-get for the .deb packages.
set -euo pipefail
invoked_from=$PWD
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$project"
me=offline_kit.sh
# shellcheck source=tools/torch_choice.sh
. tools/torch_choice.sh
fail() { echo "$me: $*" >&2; exit 2; }
usage() { fail "usage: tools/offline_kit.sh OUTDIR [--python 3.12] [--without torch,mlflow] [--torch default|$cuda12_build]"; }

builder=${PYTHON:-python3}
out='' version='' without='' torch=default
while [ $# -gt 0 ]; do
    case $1 in
        --python | --without | --torch)
            [ $# -ge 2 ] || usage
            case $1 in
                --python) version=$2 ;;
                --without) without=$2 ;;
                --torch) torch=$2 ;;
            esac
            shift 2
            ;;
        -* | '') usage ;;
        *)
            [ -z "$out" ] || usage
            out=$1
            shift
            ;;
    esac
done
[ -n "$out" ] || usage
case $torch in default | "$cuda12_build") ;; *) usage ;; esac
[[ $out == /* ]] || out=$invoked_from/$out
"$builder" -m pip --version >/dev/null 2>&1 || fail "$builder has no pip: set PYTHON to a Python 3.10 or later that has (apt-get install python3-pip)"
version=${version:-$("$builder" -c 'import sys; print("%d.%d" % sys.version_info[:2])')}
[[ $version =~ ^3\.([0-9]+)$ ]] && [ "${BASH_REMATCH[1]}" -ge 10 ] ||
    fail "--python $version: give a version from 3.10 on, such as 3.12"
[ ! -e "$out" ] || [ -z "$(ls -A "$out" 2>/dev/null || echo file)" ] || fail "$out: exists; name an empty or new directory"
mkdir -p "$(dirname "$out")" || fail "$out: cannot be made there"

# Made under another name, so that OUTDIR is complete or absent.
kit=$(mktemp -d "$out.XXXXXX")
source=$(mktemp -d)
trap 'rm -rf "$kit" "$source"' EXIT

packages=(numactl libnuma1)
if command -v apt-get >/dev/null; then
    mkdir "$kit/debs"
    names=("${packages[@]/%/:amd64}")
    # As the calling user: apt's own user may not write here.
    download() { (cd "$kit/debs" && apt-get -qq -o APT::Sandbox::User= download "${names[@]}" 2>"$kit/apt.log"); }
    download || { [ "$(id -u)" = 0 ] && apt-get -qq update >/dev/null 2>&1 && download; } ||
        fail "apt-get cannot download ${packages[*]}: $(tail -n 1 "$kit/apt.log"); try apt-get update as root first"
    rm -f "$kit/apt.log"
    system="of $(. /etc/os-release && echo "${PRETTY_NAME:-an unnamed system}")"
else
    system="none; there is no apt-get where this kit was made: install numactl on the host by other means"
    echo "$me: no apt-get here: the kit goes without ${packages[*]}" >&2
fi

print_constraints "$torch" >"$kit/constraints.txt"
index=()
[ "$torch" = default ] || index=(--extra-index-url "$cuda12_index")
"$builder" tools/collect_wheels.py "$kit" --python "$version" --without "$without" \
    --requirements requirements_hydra.txt --constraints "$kit/constraints.txt" "${index[@]}" || exit 2
rm "$kit/constraints.txt"
# The project's wheel, from a copy: setuptools writes into the tree that it builds.
cp -R numa_bench conf setup.py pyproject.toml requirements_hydra.txt README.md LICENSE "$source/"
"$builder" -m pip --disable-pip-version-check -q wheel --no-deps --wheel-dir "$kit/wheels" "$source" >"$source/log" 2>&1 ||
    fail "the project's wheel cannot be built: $(tail -n 1 "$source/log")"
cp tools/torch_choice.sh "$kit/"
sed "s/@PYTHON@/$version/; s/@TORCH@/$torch/; s/@WITHOUT@/$without/" tools/offline_install.sh >"$kit/install.sh"
chmod 755 "$kit/install.sh" "$kit"

# Comments, then lines for sha256sum --check. File names carry the versions.
(
    cd "$kit"
    echo "# numa_bench offline kit, made $(date -u +%Y-%m-%d)$(git -C "$project" rev-parse --short HEAD 2>/dev/null | sed 's/^/ from /')"
    echo "# Python $version, Linux x86-64 with glibc 2.28 or later; torch: $torch build; without: ${without:-nothing}"
    echo "# system packages $system"
    find . -type f ! -name MANIFEST -printf '%P\0' | sort -z | xargs -0 sha256sum
) >"$kit/MANIFEST"
[ ! -d "$out" ] || rmdir "$out"
mv -T "$kit" "$out"
echo "$me: $out: $(find "$out/wheels" -name '*.whl' | wc -l) wheels, $(du -sh "$out" | cut -f 1); copy it to the host and run its install.sh there"
