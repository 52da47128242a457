#!/bin/sh
# Runs /srv/aarch64_session.py in the root that it is given; aarch64-root.sh starts it in a network of its own.
set -eu
root=$1
ip link set lo up

# Without these two files XNNPACK is silently off.
cores=$root/sys/devices/system/cpu
mkdir -p "$cores"
echo "0-$(($(nproc) - 1))" | tee "$cores/possible" >"$cores/present"

exec env -i LANG=C.UTF-8 HOME=/root QEMU_CPU="$QEMU_CPU" PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$root" python3 /srv/aarch64_session.py
