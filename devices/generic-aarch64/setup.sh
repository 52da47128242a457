#!/bin/sh
# Sets up: Any 64-bit ARM board with Linux. Options: sh setup.sh --help
# shellcheck disable=SC2034  # setup-common.sh reads what is set here
set -u
BOARD=generic-aarch64
MACHINES="aarch64 arm64"
SYSTEM_PACKAGES="python3-venv"

# shellcheck source=devices/setup-common.sh
. "$(dirname "$0")/../setup-common.sh"
set_up "$@"
