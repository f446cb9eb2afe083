# shellcheck shell=bash
# Which torch a host gets: a build that its NVIDIA driver and GPUs can run, or the one that its own
# Python already has. Functions only. Sourced by setup.sh, tools/offline_kit.sh and the kit's install.sh,
# which set $me to their name for messages and run in the directory that has constraints.txt.

# Driver minima: https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
# (CUDA 13.x from driver 580, CUDA 12.x from 525). Builds of torch 2.13, and the GPUs that each
# contains code for: https://github.com/pytorch/pytorch/pull/187075 (CUDA 12.6 and 13.0; no 12.8) and
# https://github.com/pytorch/pytorch/issues/190355 (12.6 up to Hopper 9.0, 13.0 from Turing 7.5).
cuda13_driver=580
cuda12_driver=525
cuda13_lowest=75   # compute capability times ten
cuda12_highest=90
cuda12_build=cu126
# shellcheck disable=SC2034  # used by the scripts that source this one
cuda12_index=https://download.pytorch.org/whl/$cuda12_build
oldest_system_torch=2.8
me=${me:-torch_choice.sh}

# Sets $gpu_driver, empty where no driver answers, and $gpu_capabilities: compute capabilities times ten,
# empty where the driver does not report them. Asks the first nvidia-smi on PATH.
read_gpus() {
    local fields rows=''
    gpu_driver='' gpu_capabilities=''
    command -v nvidia-smi >/dev/null || return 0
    # Drivers before 510 do not know compute_cap; the driver's version alone decides then.
    for fields in driver_version,compute_cap driver_version; do
        rows=$(nvidia-smi --query-gpu=$fields --format=csv,noheader 2>/dev/null) || continue
        [[ $rows != [0-9]* ]] || break
    done
    [[ $rows == [0-9]* ]] || return 0
    gpu_driver=${rows%%[!0-9.]*}
    # A MIG-enabled GPU reports the capability of the whole GPU.
    gpu_capabilities=$(sed -nE 's/^.*, *([0-9]+)\.([0-9]) *$/\1\2/p' <<<"$rows" | sort -un | tr '\n' ' ')
}

# can_run BUILD DRIVER [CAPABILITY...]: whether this build of torch has code for all these GPUs, and
# the driver runs its CUDA. Without a driver every build runs, on the CPU.
can_run() {
    local build=$1 major=${2%%.*} capability
    shift 2
    [ -n "$major" ] || return 0
    if [ "$build" = default ]; then
        [ "$major" -ge $cuda13_driver ] || return 1
    else
        [ "$major" -ge $cuda12_driver ] || return 1
    fi
    for capability; do
        if [ "$build" = default ]; then
            [ "$capability" -ge $cuda13_lowest ] || return 1
        else
            [ "$capability" -le $cuda12_highest ] || return 1
        fi
    done
}

# pick_torch_build DRIVER [CAPABILITY...] prints "BUILD REASON...": BUILD is `default` (the package
# index's own wheel, as constraints.txt pins it) or $cuda12_build. Returns 2 after one line on stderr
# where no build fits.
pick_torch_build() {
    local driver=$1 major=${1%%.*}
    if [ -z "$driver" ]; then
        echo "default no NVIDIA driver answers"
    elif can_run default "$@"; then
        echo "default NVIDIA driver $driver runs CUDA 13"
    elif can_run $cuda12_build "$@" && [ "$major" -ge $cuda13_driver ]; then
        echo "$cuda12_build NVIDIA driver $driver runs CUDA 13, whose torch has no code for a GPU here of compute capability below 7.5"
    elif can_run $cuda12_build "$@"; then
        echo "$cuda12_build NVIDIA driver $driver runs CUDA 12 but not 13"
    else
        explain_no_build "$driver" "$major"
        return 2
    fi
}

# explain_no_build DRIVER MAJOR prints one line on stderr.
explain_no_build() {
    local why
    if [ "$2" -lt $cuda12_driver ]; then
        why="NVIDIA driver $1 is too old for torch: install driver $cuda13_driver or later, or at least $cuda12_driver"
    elif [ "$2" -ge $cuda13_driver ]; then
        why="no build of torch has code for all GPUs here (compute capability below 7.5 and above 9.0): remove the older ones from this host, or use --system-torch with a torch of your own"
    else
        why="NVIDIA driver $1 runs CUDA 12 only, whose torch has no code for a GPU of compute capability above 9.0: install driver $cuda13_driver or later"
    fi
    echo "$me: $why" >&2
}

# pick_torch_build for this host.
choose_torch_build() {
    read_gpus
    # shellcheck disable=SC2086  # one word per capability
    pick_torch_build "$gpu_driver" $gpu_capabilities
}

# Prints constraints.txt for BUILD. A CUDA 12 build brings its own versions of CUDA's libraries, and its
# pin names the build, so that pip cannot take a different build of the same version.
print_constraints() {
    if [ "$1" = default ]; then
        cat constraints.txt
    else
        without_cuda_pins | sed -E "s/^(torch|torchvision)(==[^ ;+]+)/\1\2+$1/"
    fi
}

without_cuda_pins() { awk '!/^(cuda|nvidia)-/ || /^nvidia-ml-py=/' constraints.txt; }

# Prints constraints.txt for a host whose torch is VERSION, with that pinned.
without_torch_pins() {
    without_cuda_pins | grep -vE '^(torch|torchvision|triton)=='
    echo "torch==$1"
}

# Prints the requirements in FILE, and in what it includes, less those that ask for torch.
without_torch() {
    local line
    while read -r line; do
        case $line in
            '-r '*) without_torch "${line#-r }" ;;
            torch | torch[!a-z]* | torchvision* | vit-pytorch*) ;;
            *) echo "$line" ;;
        esac
    done <"$1"
}

# Prints the version of PYTHON's own torch, which must be $oldest_system_torch or later and visible to
# a virtual environment made from PYTHON. Returns 2 after one line on stderr where it is not.
find_system_torch() {
    local python=$1 version minimum=$oldest_system_torch
    "$python" -c 'import sys; sys.exit(sys.prefix != sys.base_prefix)' || {
        echo "$me: $python belongs to a virtual environment, whose packages a new environment cannot use; set PYTHON to the Python that torch is installed for" >&2
        return 2
    }
    version=$("$python" -c 'import torch; print(torch.__version__)' 2>/dev/null) || {
        echo "$me: $python cannot import torch: set PYTHON to a Python that can, or leave --system-torch out" >&2
        return 2
    }
    # The release alone: vendors' builds call themselves 2.9.0a0+50eac811a6.nv25.09.
    "$python" -c 'import re, sys
release, minimum = ([int(n) for n in re.match(r"(\d+)\.(\d+)", v).groups()] for v in sys.argv[1:])
sys.exit(release < minimum)' "$version" "$minimum" || {
        echo "$me: torch $version of $python is too old: $minimum or later is needed; update it, or leave --system-torch out" >&2
        return 2
    }
    echo "$version"
}

# make_environment PYTHON VENV SEE [OPTION...]: with SEE=yes, VENV also has PYTHON's own packages.
# Returns 2 after one line on stderr where VENV exists and was made the other way.
make_environment() {
    local python=$1 venv=$2 see=$3 sees=no
    shift 3
    if [ -x "$venv/bin/pip" ]; then
        grep -qiE '^include-system-site-packages *= *true' "$venv/pyvenv.cfg" && sees=yes
        [ "$see" = "$sees" ] && return
        case $sees in
            yes) echo "$me: $venv was made with --system-torch: give it again, or remove $venv first" >&2 ;;
            no) echo "$me: $venv was made without --system-torch: leave it out, or remove $venv first" >&2 ;;
        esac
        return 2
    fi
    [ "$see" = no ] || set -- --system-site-packages "$@"
    "$python" -m venv "$@" "$venv"
}

# Returns 2 after one line on stderr where VENV does not import the torch VERSION that it was made for.
check_torch_is_kept() {
    local version
    version=$("$1/bin/python" -c 'import torch; print(torch.__version__)') && [ "$version" = "$2" ] || {
        echo "$me: $1 does not import the host's torch $2 but ${version:-none}; remove $1 and run this again" >&2
        return 2
    }
}
