#!/bin/sh
# Sets up: Any 64-bit PC with Linux. Options: sh setup.sh --help
# shellcheck disable=SC2034  # setup-common.sh reads what is set here
set -u
BOARD=generic-x86_64
MACHINES="x86_64 AMD64"
SYSTEM_PACKAGES="python3-venv"

# shellcheck source=devices/setup-common.sh
. "$(dirname "$0")/../setup-common.sh"
set_up "$@"
