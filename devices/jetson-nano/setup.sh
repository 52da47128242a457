#!/bin/sh
# Sets up: NVIDIA Jetson Nano. Options: sh setup.sh --help
# shellcheck disable=SC2034  # setup-common.sh reads what is set here
set -u
BOARD=jetson-nano
MACHINES="aarch64"
SYSTEM_PACKAGES="gstreamer1.0-tools gstreamer1.0-plugins-good"
PYTHON_HINT="The system image brings Python 3.6, which is too old. Build or unpack a 64-bit Python 3.10 to 3.13 and put it on PATH."

# shellcheck source=devices/setup-common.sh
. "$(dirname "$0")/../setup-common.sh"
set_up "$@"
