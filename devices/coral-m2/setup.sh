#!/bin/sh
# Sets up: Coral M.2 or Mini PCIe Accelerator in a PC or a board. Options: sh setup.sh --help
# shellcheck disable=SC2034  # setup-common.sh reads what is set here
set -u
BOARD=coral-m2
MACHINES="x86_64 aarch64"
SYSTEM_PACKAGES="python3-venv libedgetpu1-std"
USER_GROUPS="video apex"
KERNEL=$(uname -r)

# gasket-dkms 1.0-18, the driver in Coral's package source, fails to build from kernel 6.4 on, and apt-get with it:
# class_create, eventfd_signal and no_llseek changed in 6.4, 6.8 and 6.12.
builds_driver() {
    major=${KERNEL%%.*}
    rest=${KERNEL#*.}
    minor=${rest%%[!0-9]*}
    case $major$minor in *[!0-9]* | '') return 1 ;; esac
    [ "$major" -lt 6 ] || { [ "$major" -eq 6 ] && [ "${minor:-0}" -lt 4 ]; }
}
if builds_driver; then
    SYSTEM_PACKAGES="$SYSTEM_PACKAGES gasket-dkms"
fi

# shellcheck source=devices/setup-common.sh
. "$(dirname "$0")/../setup-common.sh"

# Coral's guide gives the device to a group of its own, so that no stream needs root.
set_up_board() {
    if [ -e /dev/apex_0 ]; then
        echo "already there: the driver apex"
    elif ! builds_driver; then
        echo "left out: gasket-dkms, which does not build on the kernel $KERNEL (from 6.4 on). What does: the section on the"
        echo "  driver in docs/how-to/coral-boards.md. Without it the card is not seen, and all else is set up all the same."
    fi
    rule=/etc/udev/rules.d/65-apex.rules
    if [ -e "$rule" ]; then
        echo "already there: $rule"
    else
        run_as_root sh -c "echo 'SUBSYSTEM==\"apex\", MODE=\"0660\", GROUP=\"apex\"' > $rule"
    fi
    if getent group apex >/dev/null; then
        echo "already there: the group apex"
    else
        run_as_root groupadd apex
    fi
}

set_up "$@"
