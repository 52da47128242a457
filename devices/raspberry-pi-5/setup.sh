#!/bin/sh
# Sets up: Raspberry Pi 5. Options: sh setup.sh --help
# shellcheck disable=SC2034  # setup-common.sh reads what is set here
set -u
BOARD=raspberry-pi-5
MACHINES="aarch64"
SYSTEM_PACKAGES="python3-venv gstreamer1.0-tools gstreamer1.0-plugins-base"

# shellcheck source=devices/setup-common.sh
. "$(dirname "$0")/../setup-common.sh"
set_up "$@"
