#!/bin/sh
# Sets up: Coral M.2 or Mini PCIe Accelerator in a PC or a board. Options: sh setup.sh --help
# shellcheck disable=SC2034  # setup-common.sh reads what is set here
set -u
BOARD=coral-m2
MACHINES="x86_64 aarch64"
SYSTEM_PACKAGES="python3-venv gasket-dkms libedgetpu1-std"
USER_GROUPS="video apex"

# shellcheck source=devices/setup-common.sh
. "$(dirname "$0")/../setup-common.sh"

# Coral's guide gives the device to a group of its own, so that no stream needs root.
set_up_board() {
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
