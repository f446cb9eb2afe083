#!/usr/bin/env bash
# Install numa_bench from the kit beside this file, with no network and no index.
#   KIT/install.sh [--system-torch] [VENV]      VENV: .venv in the current directory
# In a checkout of numa_bench it installs the requirements only: the checkout's own code is used there.
# --system-torch: use the torch of the host's own Python. PYTHON=/path/to/python chooses the
# interpreter. Safe to run again.
set -euo pipefail
kit=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
made_for='@PYTHON@' kit_torch='@TORCH@' without='@WITHOUT@'
me=install.sh
# shellcheck source=tools/torch_choice.sh
. "$kit/torch_choice.sh"
fail() { echo "$me: $*" >&2; exit 2; }
usage() { fail "usage: $0 [--system-torch] [VENV]"; }

python=${PYTHON:-python3}
system_torch=no venv=''
for argument in "$@"; do
    case $argument in
        --system-torch) system_torch=yes ;;
        -* | '') usage ;;
        *)
            [ -z "$venv" ] || usage
            venv=$argument
            ;;
    esac
done
venv=${venv:-.venv}

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    fail "$python does not run; set PYTHON to a Python $made_for"
[ "$version" = "$made_for" ] || fail "this kit is for Python $made_for, and $python is $version; set PYTHON to a Python $made_for, or make a kit with --python $version"
broken=$(cd "$kit" && sha256sum --check --quiet MANIFEST 2>/dev/null) || fail "the kit is damaged: ${broken//$'\n'/, }; copy it again"
if [ $system_torch = yes ]; then
    torch=$(find_system_torch "$python")
    echo "$me: torch: $torch of $python, used as it is"
    list=requirements-system-torch.txt
else
    list=requirements.txt
    if grep -q '^torch==' "$kit/$list"; then
        read_gpus
        # shellcheck disable=SC2086  # one word per capability
        if ! can_run "$kit_torch" "$gpu_driver" $gpu_capabilities; then
            read -r torch reason < <(choose_torch_build) || exit 2
            fail "the kit has the $kit_torch build of torch, and this host needs $torch: $reason; make a kit with --torch $torch"
        fi
    fi
fi

if ! command -v numactl >/dev/null; then
    if [ ! -d "$kit/debs" ]; then
        echo "$me: numactl is missing, and this kit has none: install it before studies are run" >&2
    elif [ "$(id -u)" = 0 ] && command -v dpkg >/dev/null; then
        dpkg --install "$kit"/debs/*.deb >/dev/null || fail "dpkg cannot install numactl from $kit/debs (made $(sed -n 's/^# system packages //p' "$kit/MANIFEST"))"
    else
        echo "$me: numactl is missing: as root, run dpkg --install $kit/debs/*.deb" >&2
    fi
fi

# Debian's Python brings no pip into an environment unless python3-venv is installed; the kit has one.
make_environment "$python" "$venv" $system_torch --without-pip
pip_wheel=("$kit"/wheels/pip-[0-9]*.whl)
pip=("$venv/bin/python" "${pip_wheel[0]}/pip" --isolated install -qq --no-index --no-deps --find-links "$kit/wheels")
[ -x "$venv/bin/pip" ] || "${pip[@]}" --ignore-installed pip
"${pip[@]}" -r "$kit/$list"
[ $system_torch = no ] || check_torch_is_kept "$venv" "$torch"
if [ -f numa_bench/__init__.py ] && [ -f hydra_experiment_runner.py ]; then
    echo "$me: this is a checkout: its own numa_bench is used, and not the kit's"
else
    # A newer kit may have the same version.
    "${pip[@]}" --force-reinstall numa-bench
fi
# Without a C compiler this prints one line: bandwidth of the host's memory is then not measured.
"$venv/bin/python" -m numa_bench.worker.memory_kernels.build || true
echo "$me: ready${without:+, without $without}; use $venv/bin/python"
