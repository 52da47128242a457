#!/bin/sh
# Puts a Vulkan driver that needs no GPU into a folder, for the GPU backend's tests and benchmark. Nothing is installed.
#     sh tests/device/setup-vulkan.sh [swiftshader|lavapipe] [FOLDER]
# SwiftShader comes out of Debian's package chromium-common and computes in float32 only; lavapipe is Mesa's, float16
# included, for which Debian 12's own is too old. Prints the variables that make the driver found:
#     env $(sh tests/device/setup-vulkan.sh lavapipe) edgeseg bench MODEL --backend gpu:float16
set -eu

driver=${1:-swiftshader}
folder=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/edgeseg-vulkan/$driver}

fail() { echo "$1" >&2; exit 1; }

tell() {
    echo "LD_LIBRARY_PATH=$folder"
    echo "VK_ICD_FILENAMES=$folder/icd.json"
    echo "XDG_RUNTIME_DIR=$folder"
    exit 0
}

fetch() {
    apt-get -qq "$@" >&2
    for package in *.deb; do dpkg-deb --extract "$package" unpacked; done
}

fetch_from_backports() {
    mkdir -p lists/partial cache/archives/partial
    mirror=$(apt-cache policy | sed -n 's/^ *[0-9]* \(http[^ ]*\) bookworm\/main .*/\1/p' | head -n 1)
    [ -n "$mirror" ] || fail "Expected Debian 12 with its package lists, got none: run apt-get update first."
    echo "deb $mirror bookworm-backports main" > sources.list
    own="-o Dir::Etc::sourcelist=$PWD/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$PWD/lists"
    own="$own -o Dir::Cache=$PWD/cache"
    apt-get -qq $own update >&2
    fetch $own download mesa-vulkan-drivers
}

case $driver in swiftshader | lavapipe) ;; *) fail "Expected swiftshader or lavapipe, got $driver." ;; esac
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
[ ! -f "$folder/icd.json" ] || tell
for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || fail "Expected $tool, which this system does not have."
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir -p "$folder"
case $driver in
swiftshader)
    fetch download chromium-common
    cp unpacked/usr/lib/chromium/libvulkan.so.1 unpacked/usr/lib/chromium/libvk_swiftshader.so "$folder"
    cp unpacked/usr/lib/chromium/vk_swiftshader_icd.json "$folder/icd.json"
    ;;
lavapipe)
    fetch download libvulkan1
    if grep -q VERSION_CODENAME=bookworm /etc/os-release; then fetch_from_backports; else
        fetch download mesa-vulkan-drivers
    fi
    cp unpacked/usr/lib/*/libvulkan.so.1 unpacked/usr/lib/*/libvulkan_lvp.so "$folder"
    missing=$(ldd "$folder/libvulkan_lvp.so" | sed -n 's/^\s*\(\S*\) => not found$/\1/p' | tr '\n' ' ')
    [ -z "$missing" ] || fail "lavapipe needs ${missing}which apt-get install mesa-vulkan-drivers brings."
    sed 's|"library_path": ".*"|"library_path": "./libvulkan_lvp.so"|' \
        unpacked/usr/share/vulkan/icd.d/lvp_icd*.json > "$folder/icd.json"
    ;;
esac
tell
