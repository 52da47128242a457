# What every board's setup.sh does after it has named its board. Sourced, not run; POSIX sh, needs no edgeseg.
# The board's script sets: BOARD, MACHINES (what `uname -m` may say), SYSTEM_PACKAGES (Debian names, may be empty), and
# where it differs PYTHON_HINT (what to do without a fitting Python) and USER_GROUPS (who may open its devices).
# shellcheck shell=sh
PYTHON_HINT=${PYTHON_HINT:-On Debian: sudo apt-get install python3-venv}
USER_GROUPS=${USER_GROUPS:-video}

usage() {
    cat <<USAGE
Usage: sh setup.sh [--dry-run] [--as-root] [--package WHAT] [FOLDER]

Makes a Python environment for edgeseg on the board $BOARD and installs the light install into it.
Running it again changes nothing that is already in place.

  FOLDER          where the environment goes (default: ~/edgeseg)
  --package WHAT  the wheel of edgeseg, or a requirement for pip (default: the edgeseg-*.whl beside the folder devices,
                  in dist/ there, or here; "make wheel" in a checkout leaves it in dist/)
  --as-root       also run the steps that need root (with sudo): system packages, groups
  --dry-run       print the commands and run none
USAGE
}

fail() {
    echo "setup: $1" >&2
    exit 1
}

read_arguments() {
    folder='' package='' as_root=no dry_run=no
    while [ $# -gt 0 ]; do
        case $1 in
            --dry-run) dry_run=yes ;;
            --as-root) as_root=yes ;;
            --package) [ $# -ge 2 ] || fail "Expected a wheel or a requirement after --package."; package=$2; shift ;;
            -h | --help) usage; exit 0 ;;
            -*) fail "Expected one of the options that --help lists, got $1." ;;
            *) [ -z "$folder" ] || fail "Expected one folder, got $folder and $1."; folder=$1 ;;
        esac
        shift
    done
    [ -n "$package" ] || find_wheel
    [ -n "$folder" ] || folder=${HOME:?setup: HOME is not set, name a folder}/edgeseg
    folder=$(name_fully "$folder")
    [ ! -e "$package" ] || package=$(name_fully "$package")
}

name_fully() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s\n' "$(pwd)/$1" ;;
    esac
}

run() {
    echo "+ $*"
    [ "$dry_run" = yes ] || "$@" || fail "This command failed: $*"
}

run_as_root() {
    if [ "$as_root" = yes ] && [ "$(id -u)" = 0 ]; then
        run "$@"
    elif [ "$as_root" = yes ]; then
        run sudo "$@"
    else
        echo "left out, needs root (--as-root runs it): sudo $*"
    fi
}

check_machine() {
    machine=$(uname -m)
    case " $MACHINES " in
        *" $machine "*) ;;
        *) fail "Expected a machine of the kind $MACHINES for $BOARD, got $machine. Use another board's setup.sh." ;;
    esac
}

# edgeseg is on no package index: its wheel is copied to the board together with the folder devices.
find_wheel() {
    devices=$(dirname "$0")/..
    for wheel in "$devices"/../edgeseg-*.whl "$devices"/../dist/edgeseg-*.whl ./edgeseg-*.whl; do
        if [ -f "$wheel" ]; then
            package=$wheel
            return 0
        fi
    done
    fail "Expected edgeseg's wheel beside the folder devices, got none. Copy dist/edgeseg-*.whl there, which 'make wheel'
in a checkout makes, or name it with --package."
}

# A 64-bit Python from 3.10 to 3.13 that can make environments; the newest wins.
find_python() {
    for python in python3.13 python3.12 python3.11 python3.10 python3; do
        if command -v "$python" >/dev/null 2>&1 && "$python" -c 'import ensurepip, sys, venv
sys.exit(not ((3, 10) <= sys.version_info[:2] <= (3, 13) and sys.maxsize > 2**32))' 2>/dev/null; then
            return 0
        fi
    done
    fail "Expected a 64-bit Python 3.10 to 3.13 with venv, got none. $PYTHON_HINT"
}

install_system_packages() {
    command -v dpkg >/dev/null 2>&1 || return 0
    for name in $SYSTEM_PACKAGES; do
        if dpkg -s "$name" >/dev/null 2>&1; then
            echo "already there: $name"
        elif [ -z "$(apt-cache madison "$name" 2>/dev/null)" ]; then
            echo "left out: no package source known here has $name. Try sudo apt-get update; the board's README says more."
        else
            run_as_root apt-get install -y --no-install-recommends "$name"
        fi
    done
}

join_groups() {
    user=$(id -un)
    for group in $USER_GROUPS; do
        if [ "$user" = root ] || id -nG | tr ' ' '\n' | grep -qx "$group"; then
            echo "already there: the rights of the group $group"
        elif getent group "$group" >/dev/null || [ "$dry_run" = yes ]; then
            run_as_root usermod -aG "$group" "$user"
        else
            echo "left out: there is no group $group yet; its driver or library makes it. Then run this again."
        fi
    done
}

make_environment() {
    if [ -x "$folder/bin/python" ]; then
        echo "already there: $folder"
    else
        run "$python" -m venv "$folder"
    fi
    run "$folder/bin/python" -m pip install "$package"
}

# Steps of the board's own: its script may define this anew after sourcing.
set_up_board() {
    :
}

set_up() {
    read_arguments "$@"
    # Python looks for modules in the working folder first, and in this one only root can leave some
    cd / || fail "Expected to change to the folder /."
    check_machine
    install_system_packages
    find_python
    set_up_board
    join_groups
    make_environment
    echo "Next: $folder/bin/edgeseg doctor --device $BOARD"
}
