#!/bin/sh
# Sets up: Coral USB Accelerator on a Raspberry Pi or a PC. Options: sh setup.sh --help
# shellcheck disable=SC2034  # setup-common.sh reads what is set here
set -u
BOARD=coral-usb
MACHINES="aarch64 x86_64"
SYSTEM_PACKAGES="python3-venv libedgetpu1-std"
USER_GROUPS="video plugdev"

# shellcheck source=devices/setup-common.sh
. "$(dirname "$0")/../setup-common.sh"
set_up "$@"
