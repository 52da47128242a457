#!/bin/sh
# Sets up: NVIDIA Jetson AGX Orin. Options: sh setup.sh --help
# shellcheck disable=SC2034  # setup-common.sh reads what is set here
set -u
BOARD=jetson-agx-orin
MACHINES="aarch64"
SYSTEM_PACKAGES="python3-venv gstreamer1.0-tools gstreamer1.0-plugins-good"

# shellcheck source=devices/setup-common.sh
. "$(dirname "$0")/../setup-common.sh"
set_up "$@"
