#!/bin/sh
# Sets up: Any 64-bit ARM board with Linux. Options: sh setup.sh --help
set -u
BOARD=generic-aarch64
MACHINES="aarch64 arm64"
SYSTEM_PACKAGES="python3-venv"

. "$(dirname "$0")/../setup-common.sh"
set_up "$@"
