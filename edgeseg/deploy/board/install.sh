#!/bin/sh
# Installs the model beside this script, and makes it the one in use when it has passed `verify`.
# Names in capitals come from common.sh and release.env.
# shellcheck disable=SC2153
set -u
umask 022
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || exit 1
# shellcheck source=common.sh
. "$here/common.sh"

usage() {
    cat <<USAGE
Usage: sh install.sh [--prefix FOLDER] [--downgrade]

As root the model goes to /opt/edgeseg with a system service, else to ~/.local/share/edgeseg with a service of the user.
What is in use stays in use until the new model has passed its checks. Exit code 3: it did not pass. An archive that
is older than what was in use there is refused without --downgrade.
USAGE
}

read_arguments() {
    prefix='' downgrade=${EDGESEG_DOWNGRADE:-no}
    while [ $# -gt 0 ]; do
        case $1 in
            --prefix) [ $# -ge 2 ] || fail "Expected a folder after --prefix."; use_prefix "$2"; shift ;;
            --downgrade) downgrade=yes ;;
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
    for name in "$RELEASE" "$ENVIRONMENT"; do
        case $name in '' | .* | -* | *[!A-Za-z0-9.-]*) fail "Expected a plain name in release.env, got '$name'." ;; esac
    done
    check_prefix
    { mkdir -p "$prefix" && : >>"$prefix/$MARK"; } ||
        fail "Expected to write into $prefix. Check its rights and the room on the disk."
    take_lock
    finish_switch
    for name in releases environments; do
        [ ! -L "$prefix/$name" ] || fail "Expected a folder at $prefix/$name, got a link."
        mkdir -p "$prefix/$name" || fail "Expected to write into $prefix. Check its rights and the room on the disk."
    done
    release=$prefix/releases/$RELEASE environment=$prefix/environments/$ENVIRONMENT
    refuse_older "$here"
    settle_settings
}

# Sources may have passwords in them: nobody but the owner ever reads the settings.
settle_settings() {
    settings=$prefix/stream.env
    [ ! -L "$settings" ] || fail "Expected a file at $settings, got a link."
    if [ -f "$settings" ]; then
        chmod 600 "$settings" || fail "Expected to change the rights of $settings."
        return 0
    fi
    { rm -f "$settings.new" && (umask 077 && set -C && cat "$here/stream.env" >"$settings.new") &&
        mv -T "$settings.new" "$settings"; } || fail "Copying to $settings failed. Check the room on the disk."
}

copy() {
    { rm -f "$2.new" && cp "$1" "$2.new" && mv -T "$2.new" "$2"; } ||
        fail "Copying to $2 failed, the model in use has not changed. Check the room on the disk."
}

# What an interruption leaves half made goes again, and so does the copy of the archive that board.sh unpacked.
clean_up() {
    [ "$half" = no ] || { ! is_own_release "$release" || remove_own "$release"; }
    [ "$half" = no ] || [ -f "$environment/ready" ] || [ ! -f "$environment/$OWN" ] || remove_own "$environment"
    case $here in
        "$prefix"/incoming.*/files) [ ! -f "$here/../$OWN" ] || remove_own "${here%/files}" ;;
    esac
}

# A folder without the file `passed` was left by an interruption, or holds a model that did not pass.
install_release() {
    if [ -f "$release/passed" ]; then
        echo "already there: $RELEASE"
        return 0
    fi
    make_room is_own_release "$release"
    half=yes
    make_own "$release"
    copy "$here/model.tflite" "$release/model.tflite"
    make_environment
    ln -s "../../environments/$ENVIRONMENT" "$release/venv" || fail "Linking $release/venv failed."
}

make_room() {
    [ -e "$2" ] || [ -L "$2" ] || return 0
    "$1" "$2" || fail "Expected nothing but edgeseg's own files at $2, got others. Move them away."
    remove_own "$2" || fail "Removing $2 failed. Check its rights."
}

# Models with the same packages share an environment, so that an upgrade copies a file and no more. One whose Python
# went with an upgrade of the system is made again.
make_environment() {
    if [ -f "$environment/ready" ] && "$environment/bin/python" -I -c '' 2>/dev/null; then
        echo "already there: $environment"
        return 0
    fi
    make_room is_own_environment "$environment"
    make_own "$environment"
    [ -z "$OFFLINE_PYTHON" ] || use_packed_wheels
    sh "$here/devices/$BOARD/setup.sh" --package "$here/wheels/$WHEEL" "$environment" ||
        fail "Setting up Python failed, see above; the model in use has not changed."
    : >"$environment/ready" || fail "Expected to write into $environment. Check the room on the disk."
}

use_packed_wheels() {
    "python$OFFLINE_PYTHON" -I -m venv "$environment" ||
        fail "Expected python$OFFLINE_PYTHON with venv, for which this archive's packages are, got none that works."
    export PIP_NO_INDEX=1 PIP_FIND_LINKS="$here/wheels"
}

pass_release() {
    if ! verify_release "$release"; then
        echo "edgeseg: $RELEASE did not pass, see above; the model in use has not changed." >&2
        exit 3
    fi
    : >"$release/passed" || fail "Expected to write into $release. Check the room on the disk."
    half=no
}

install_service() {
    has_systemd || return 0
    kind=user
    [ "$(id -u)" != 0 ] || kind=system
    unit=$(unit_path)
    if [ -L "$unit" ] || { [ -e "$unit" ] && ! grep -q '^# Written by install.sh' "$unit"; }; then
        fail "Expected no service of others at $unit, got one. The model in use has not changed."
    fi
    {
        mkdir -p "$(dirname "$unit")" &&
            sed "s|@PREFIX@|$prefix|g; s|@GROUPS@|$(list_groups)|" "$here/$kind.service" >"$unit.new" &&
            mv -T "$unit.new" "$unit" && control_service daemon-reload && control_service enable "$UNIT"
    } || fail "Putting the service into place failed, see above; the model in use has not changed."
    [ "$kind" = system ] || echo "To start it without a login: loginctl enable-linger"
}

remember_built() {
    older=$(read_built "$prefix/newest")
    if [ "$downgrade" = yes ] || [ "${BUILT:-0}" -gt "${older:-0}" ]; then
        printf "BUILT='%s'\n" "${BUILT:-0}" >"$prefix/newest.new" && mv -T "$prefix/newest.new" "$prefix/newest" ||
            echo "edgeseg: $prefix/newest could not be written; check the room on the disk." >&2
    fi
}

# The one in use and the one before it stay, with their environments; and so does what is not edgeseg's.
remove_unused() {
    for folder in "$prefix"/releases/*; do
        is_used "$folder" || remove_or_tell is_own_release
    done
    for folder in "$prefix"/environments/*; do
        is_used "$folder" /venv || remove_or_tell is_own_environment
    done
}

is_used() {
    [ "$1" = "$(readlink -f "$prefix/current${2:-}")" ] || [ "$1" = "$(readlink -f "$prefix/previous${2:-}")" ]
}

remove_or_tell() {
    [ -e "$folder" ] || return 0
    if ! "$1" "$folder"; then
        echo "left in place, since it holds files of others: $folder"
    elif ! remove_own "$folder"; then
        echo "edgeseg: $folder is not needed any more and could not be removed." >&2
    fi
}

half=no release='' environment=''
read_arguments "$@"
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
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
put_in_use "releases/$RELEASE"
remember_built
remove_unused
echo "In use: $RELEASE. Settings: $prefix/stream.env. More: sh $prefix/board.sh --help"
