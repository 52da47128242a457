#!/bin/sh
# Installs the model beside this script, and makes it the one in use when it has passed `verify`.
# Names in capitals come from common.sh and release.env.
# shellcheck disable=SC2153
set -u
umask 022
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
# shellcheck source=common.sh
. "$here/common.sh"

usage() {
    cat <<USAGE
Usage: sh install.sh [--prefix FOLDER]

As root the model goes to /opt/edgeseg with a system service, else to ~/.local/share/edgeseg with a service of the user.
What is in use stays in use until the new model has passed its checks. Exit code 3: it did not pass.
USAGE
}

read_arguments() {
    prefix=''
    while [ $# -gt 0 ]; do
        case $1 in
            --prefix) [ $# -ge 2 ] || fail "Expected a folder after --prefix."; use_prefix "$2"; shift ;;
            -h | --help) usage; exit 0 ;;
            *) fail "Expected one of the options that --help lists, got $1." ;;
        esac
        shift
    done
    [ -n "$prefix" ] || default_prefix
}

check_archive() {
    (cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) ||
        fail "Expected the files of the archive as they were packed, got others. Copy the archive again."
}

check_board() {
    machine=$(uname -m)
    grep -qx "$machine" "$here/machines" ||
        fail "Expected a machine of the kind $(paste -sd' ' "$here/machines") for $BOARD, got $machine."
    [ -s "$here/device-tree" ] || return 0
    model=$(tr -d '\0' 2>/dev/null </proc/device-tree/model || echo "a machine that does not name its board")
    printf '%s\n' "$model" | grep -qFf "$here/device-tree" ||
        fail "Expected the board $BOARD, got $model. Pack an archive for this board with edgeseg deploy --device."
}

begin() {
    { mkdir -p "$prefix/releases" "$prefix/environments" && : >"$prefix/$MARK"; } ||
        fail "Expected to write into $prefix. Check its rights and the room on the disk."
    take_lock
    release=$prefix/releases/$RELEASE environment=$prefix/environments/$ENVIRONMENT
    [ -f "$prefix/stream.env" ] || copy "$here/stream.env" "$prefix/stream.env"
}

copy() {
    { cp "$1" "$2.new" && mv -T "$2.new" "$2"; } ||
        fail "Copying to $2 failed, the model in use has not changed. Check the room on the disk."
}

# A folder without the file `passed` was left by an interruption, or holds a model that did not pass.
install_release() {
    if [ -f "$release/passed" ]; then
        echo "already there: $RELEASE"
        return 0
    fi
    rm -rf "$release"
    trap 'rm -rf "$release"; [ -f "$environment/ready" ] || rm -rf "$environment"' EXIT
    trap 'exit 1' HUP INT TERM
    mkdir "$release" || fail "Making $release failed. Check the room on the disk."
    copy "$here/model.tflite" "$release/model.tflite"
    make_environment
    ln -s "../../environments/$ENVIRONMENT" "$release/venv" || fail "Linking $release/venv failed."
}

# Models with the same packages share an environment, so that an upgrade copies a file and no more. One whose Python
# went with an upgrade of the system is made again.
make_environment() {
    if [ -f "$environment/ready" ] && "$environment/bin/python" -c '' 2>/dev/null; then
        echo "already there: $environment"
        return 0
    fi
    rm -rf "$environment"
    [ -z "$OFFLINE_PYTHON" ] || use_packed_wheels
    sh "$here/devices/$BOARD/setup.sh" --package "$here/wheels/$WHEEL" "$environment" ||
        fail "Setting up Python failed, see above; the model in use has not changed."
    : >"$environment/ready" || fail "Expected to write into $environment. Check the room on the disk."
}

use_packed_wheels() {
    "python$OFFLINE_PYTHON" -m venv "$environment" ||
        fail "Expected python$OFFLINE_PYTHON with venv, for which this archive's packages are, got none that works."
    export PIP_NO_INDEX=1 PIP_FIND_LINKS="$here/wheels"
}

pass_release() {
    if ! verify_release "$release"; then
        echo "edgeseg: $RELEASE did not pass, see above; the model in use has not changed." >&2
        exit 3
    fi
    : >"$release/passed" || fail "Expected to write into $release. Check the room on the disk."
    trap - EXIT
}

install_service() {
    has_systemd || return 0
    kind=user
    [ "$(id -u)" != 0 ] || kind=system
    unit=$(unit_path)
    {
        mkdir -p "$(dirname "$unit")" &&
            sed "s|@PREFIX@|$prefix|g; s|@GROUPS@|$(list_groups)|" "$here/$kind.service" >"$unit.new" &&
            mv "$unit.new" "$unit" && control_service daemon-reload && control_service enable "$UNIT"
    } || fail "Putting the service into place failed, see above; the model in use has not changed."
    [ "$kind" = system ] || echo "To start it without a login: loginctl enable-linger"
}

put_in_use() {
    before=$(read_link current) older=$(read_link previous)
    switch_to "releases/$RELEASE"
    restart_service && return 0
    if [ -n "$before" ] && [ "$before" != "releases/$RELEASE" ]; then
        point current "$before"
        [ -z "$older" ] || point previous "$older"
        restart_service
        fail "The service did not start with $RELEASE: back to $before. Its words: journalctl -u $UNIT (user: --user)"
    fi
    fail "The service did not start. Its words: journalctl -u $UNIT (user: --user). Check $prefix/stream.env."
}

# The one in use and the one before it stay, with their environments.
remove_unused() {
    for folder in "$prefix"/releases/*; do
        case releases/${folder##*/} in
            "$(read_link current)" | "$(read_link previous)") ;;
            *) rm -rf "$folder" ;;
        esac
    done
    for folder in "$prefix"/environments/*; do
        case $folder in
            "$(readlink -f "$prefix/current/venv")" | "$(readlink -f "$prefix/previous/venv")") ;;
            *) rm -rf "$folder" ;;
        esac
    done
}

read_arguments "$@"
check_archive
# shellcheck source=/dev/null
. "$here/release.env"
check_board
begin
install_release
pass_release
for file in common.sh board.sh; do copy "$here/$file" "$prefix/$file"; done
[ ! -f "$here/key.pem" ] || [ -f "$prefix/key.pem" ] || copy "$here/key.pem" "$prefix/key.pem"
install_service
put_in_use
remove_unused
echo "In use: $RELEASE. Settings: $prefix/stream.env. More: sh $prefix/board.sh --help"
