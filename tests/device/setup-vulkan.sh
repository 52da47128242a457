#!/bin/sh
# Puts a Vulkan driver that needs no GPU into a folder, for the tests of the GPU backend: SwiftShader, as Debian's
# package chromium-common holds it. Nothing is installed. Prints the folder.
#     sh tests/device/setup-vulkan.sh [FOLDER]
set -eu

folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/edgeseg-vulkan}
if [ -f "$folder/vk_swiftshader_icd.json" ]; then
    echo "$folder"
    exit 0
fi
for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || { echo "Expected $tool, which this system does not have." >&2; exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq download chromium-common >&2
dpkg-deb --extract chromium-common_*.deb unpacked
mkdir -p "$folder"
cp unpacked/usr/lib/chromium/libvulkan.so.1 unpacked/usr/lib/chromium/libvk_swiftshader.so "$folder"
cp unpacked/usr/lib/chromium/vk_swiftshader_icd.json "$folder"
echo "$folder"
