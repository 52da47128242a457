#!/bin/sh
# Runs FOLDER/aarch64_session.py in an arm64 Debian without a network, emulated by qemu; its results/ come back.
#     sh tests/device/aarch64-root.sh SUITE FOLDER [MIRROR]
# mmdebstrap makes the root in a temporary folder, in a mount namespace of its own, and removes it.
set -eu
suite=$1 folder=$2
shift 2

# With SVE, qemu computes wrong numbers, and says nothing.
export QEMU_CPU=max,sve=off
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
formats=/proc/sys/fs/binfmt_misc

# Where the system has not told the kernel about qemu, root does so for as long as this runs.
register_qemu() {
    [ -e "$formats/register" ] || mount -t binfmt_misc binfmt_misc "$formats"
    trap 'echo -1 >"$formats/qemu-aarch64"' EXIT
    trap 'exit 1' HUP INT TERM
    cat /usr/lib/binfmt.d/qemu-aarch64.conf >"$formats/register"
}

arch-test arm64 >/dev/null 2>&1 || register_qemu

# The host's /sys crashes the emulated programs. Certificates and manuals are left out, since setting them up takes a
# minute of emulation.
mmdebstrap --architecture=arm64 --variant=apt --include=python3-venv --skip=chroot/mount/sys \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/ca-certificates/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook="sync-in $folder /srv" \
    --customize-hook="unshare --net sh $here/aarch64-inside.sh \"\$1\"" \
    --customize-hook="sync-out /srv/results $folder/results" \
    "$suite" /dev/null "$@"
