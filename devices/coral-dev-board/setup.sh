#!/bin/sh
# Sets up: Coral Dev Board (i.MX 8M). Options: sh setup.sh --help
# shellcheck disable=SC2034  # setup-common.sh reads what is set here
set -u
BOARD=coral-dev-board
MACHINES="aarch64"
SYSTEM_PACKAGES="libedgetpu1-std"
PYTHON_HINT="The system image brings Python 3.7, which is too old. Build or unpack a 64-bit Python 3.10 to 3.13 and put it on PATH."
USER_GROUPS="video apex"

# shellcheck source=devices/setup-common.sh
. "$(dirname "$0")/../setup-common.sh"
set_up "$@"
