#!/usr/bin/env bash
# Install a working Nsight Systems command line (profile, export, stats) from Debian's packages:
# nsys 2023.4, 190 MB to download, 250 MB on disk, about 10 s. No GPU or CUDA needed.
#   tools/install_nsys.sh [PREFIX]      PREFIX: .nsys beside this project, where the runner looks
# Debian on x86-64. Elsewhere install NVIDIA's package nsight-systems-cli
# (https://developer.nvidia.com/nsight-systems). Safe to run again; needs root only for missing
# libraries. Why not `apt-get install nsight-systems`: as packaged, nsys does not find its
# QdstrmImporter and never writes a report; the links created below fix that.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "${1:-$project/.nsys}"
prefix=$(cd "${1:-$project/.nsys}" && pwd)
nsys=$prefix/usr/bin/nsys
suite=trixie
fail() { echo "install_nsys.sh: $*" >&2; exit 2; }

if [ -x "$nsys" ] && "$nsys" --version; then exit 0; fi
[ "$(uname -m)" = x86_64 ] || fail "Debian has nsys for x86-64 only; see https://developer.nvidia.com/nsight-systems"
command -v apt-get >/dev/null || fail "needs apt-get; see https://developer.nvidia.com/nsight-systems"
key=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$key" ] || fail "needs Debian's archive keyring ($key)"

# libraries that nsys is linked to and a minimal Debian lacks
missing=()
for package in libgssapi-krb5-2 libpfm4 libelf1; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "ask an administrator to install ${missing[*]}"
        root=(sudo)
    fi
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# apt with a state of its own: the system's sources and packages stay as they are
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1 || true)
mirror=${mirror:-http://deb.debian.org/debian}
state=$prefix/.apt
rm -rf "$state"
mkdir -p "$state"/lists/partial "$state"/cache/archives/partial "$state"/packages
: >"$state/status"
{
    echo "deb [signed-by=$key] $mirror $suite non-free"
    echo "deb [signed-by=$key] $mirror bookworm main"
} >"$state/sources.list"
apt() {
    apt-get -qq -o "Dir::Etc::SourceList=$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o "Dir::State=$state" -o "Dir::State::Lists=$state/lists" -o "Dir::State::status=$state/status" \
        -o "Dir::Cache=$state/cache" -o Acquire::Languages=none -o APT::Architecture=amd64 \
        -o APT::Sandbox::User= -o Debug::NoLocking=1 "$@"
}
apt update
(cd "$state/packages" && apt download "nsight-systems/$suite" "nsight-systems-target/$suite" libssh-4/bookworm)
for package in "$state"/packages/*.deb; do
    # without the graphical program, which is most of it
    dpkg-deb --fsys-tarfile "$package" | tar -C "$prefix" -x --wildcards \
        --exclude='./usr/share/*' --exclude='*/libQt6*' --exclude='*/libicu*' --exclude='*/Plugins/*' \
        --exclude='*/resources/*' --exclude='*/translations/*' --exclude='*/libexec/*' \
        --exclude='*/nsys-ui*' --exclude='*/libNvQtGui*' --exclude='*CrashReporter'
done
target=$prefix/usr/lib/x86_64-linux-gnu/nsight-systems
host=$prefix/usr/lib/nsight-systems/host-linux-x64
ln -sfn ../../nsight-systems/host-linux-x64 "$target/host-linux-x64"
if [ -d "$host/python/lib" ]; then # what nsys stats imports
    for file in "$target"/target-linux-x64/python/lib/*.py; do ln -sfn "$file" "$host/python/lib/"; done
fi
rm -rf "$state"
"$nsys" --version
case $prefix in
    "$project/.nsys") echo "install_nsys.sh: ready; the runner finds it there" ;;
    *) echo "install_nsys.sh: ready; export PATH=$prefix/usr/bin:\$PATH" ;;
esac
