#!/bin/sh
# Looks after the model that install.sh put onto this board: upgrade, verify, rollback, uninstall.
# Names in capitals come from common.sh and release.env.
# shellcheck disable=SC2153
set -u
umask 022
prefix=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || exit 1
# shellcheck source=common.sh
. "$prefix/common.sh"

usage() {
    cat <<USAGE
Usage: sh board.sh COMMAND

  status            which model is in use, and which was before
  verify            the masks of the golden pairs and the budget, once more; exit code 3 when one does not hold
  stream            run the stream in this terminal with the settings of stream.env
  restart           start the service again, after a change of stream.env
  upgrade [--downgrade] ARCHIVE
                    check the archive (and its .sig, where this board has a key), unpack and install it; one that is
                    older than what was in use here only with --downgrade
  rollback          go back to the model before
  uninstall         remove the service and everything in $prefix
USAGE
}

show_status() {
    echo "in use: $(read_link current)"
    echo "before: $(read_link previous)"
}

verify() {
    verify_release "$prefix/current" || exit 3
}

run_stream() {
    # shellcheck source=/dev/null
    . "$prefix/stream.env"
    # in the environment, since other users can read a command line, and an address may hold a password
    export EDGESEG_SOURCE
    set -f
    # shellcheck disable=SC2086  # several options, split at spaces as systemd does
    exec "$prefix/current/venv/bin/edgeseg" stream "$prefix/current/model.tflite" \
        --backend "$EDGESEG_BACKEND" --threads "$EDGESEG_THREADS" --budget-ms "$EDGESEG_BUDGET_MS" \
        --view "$EDGESEG_VIEW" ${EDGESEG_MORE:-}
}

check_signature() {
    [ -f "$prefix/key.pem" ] || return 0
    [ -f "$incoming/archive.tar.gz.sig" ] ||
        fail "Expected the signature $1.sig, since this board takes signed archives only, got none."
    command -v openssl >/dev/null 2>&1 || fail "Expected openssl on this board to check the signature, got none."
    openssl dgst -sha256 -verify "$prefix/key.pem" -signature "$incoming/archive.tar.gz.sig" \
        "$incoming/archive.tar.gz" >/dev/null 2>&1 ||
        fail "Expected an archive that was signed with this board's key, got another or a changed one: $1."
}

# Plain files only: no link, no device, no way out of the folder, none that would run with the rights of others.
check_members() {
    { LC_ALL=C tar -tvzf "$incoming/archive.tar.gz" >"$incoming/members" &&
        LC_ALL=C tar -tzf "$incoming/archive.tar.gz" >"$incoming/names"; } ||
        fail "Expected a whole archive, got one cut short, or the disk is full: $1."
    if grep -Evq '^-r[w-][x-]r-[x-]r-[x-] ' "$incoming/members" || grep -Evq '^[^/\\-][^\\]*$' "$incoming/names" ||
        grep -Eq '(^|/)\.\.?(/|$)' "$incoming/names" || [ -n "$(sort "$incoming/names" | uniq -d)" ]; then
        fail "Expected plain files with plain names in an archive that edgeseg deploy wrote, got others in $1."
    fi
}

# What a kill or a lost supply left of an archive that was being unpacked; its name ends with its process.
remove_interrupted() {
    for left in "$prefix"/incoming.*; do
        if [ -L "$left" ] || [ ! -f "$left/$OWN" ]; then continue; fi
        kill -0 "${left##*.}" 2>/dev/null || remove_own "$left"
    done
}

# Nothing of an archive is run before it was checked whole; and what is checked is a copy that nobody else can change.
upgrade() {
    [ -f "$1" ] || fail "Expected an archive at $1, got none."
    remove_interrupted
    incoming=$prefix/incoming.$$
    trap '[ ! -f "$incoming/$OWN" ] || remove_own "$incoming"' EXIT
    trap 'exit 1' HUP INT TERM
    (umask 077 && make_own "$incoming") || exit 1
    cp -- "$1" "$incoming/archive.tar.gz" || fail "Copying $1 into $prefix failed. Check the room on the disk."
    if [ -f "$1.sig" ]; then
        cp -- "$1.sig" "$incoming/archive.tar.gz.sig" || fail "Copying $1.sig failed. Check the room on the disk."
    fi
    check_signature "$1"
    check_members "$1"
    { mkdir "$incoming/files" && tar -xzf "$incoming/archive.tar.gz" -C "$incoming/files" --no-same-owner; } ||
        fail "Expected room on the disk to unpack $1."
    [ -f "$incoming/files/install.sh" ] || fail "Expected an archive that edgeseg deploy wrote, got $1."
    refuse_older "$incoming/files"
    export EDGESEG_DOWNGRADE="$downgrade"
    # it takes this process's place, so that a signal reaches the one that knows what to do; and it clears up
    exec sh "$incoming/files/install.sh" --prefix "$prefix"
}

read_upgrade() {
    downgrade=no
    if [ "${1:-}" = --downgrade ]; then downgrade=yes; shift; fi
    [ "${1:-}" != -- ] || shift
    [ $# -eq 1 ] || fail "Expected one archive after upgrade."
    upgrade "$1"
}

rollback() {
    take_lock
    finish_switch
    before=$(read_link previous)
    [ -f "$prefix/${before:-none}/passed" ] || fail "Expected a model before the one in use, got none."
    put_in_use "$before"
    show_status
}

uninstall() {
    take_lock
    unit=$(unit_path)
    if has_systemd && grep -qsF "$prefix/" "$unit"; then
        { control_service disable --now "$UNIT" && rm -f "$unit" && control_service daemon-reload; } ||
            fail "Stopping the service failed, see above; nothing was removed."
    fi
    for folder in "$prefix"/releases/*; do remove_if is_own_release "$folder"; done
    for folder in "$prefix"/environments/*; do remove_if is_own_environment "$folder"; done
    remove_interrupted
    rmdir "$prefix/releases" "$prefix/environments" 2>/dev/null
    for name in current previous leaving; do rm -f "$prefix/$name" "$prefix/$name.new"; done
    for name in stream.env key.pem newest common.sh board.sh lock "$MARK"; do rm -f "$prefix/$name" "$prefix/$name.new"; done
    rmdir "$prefix" 2>/dev/null || echo "Left in place, since it holds files of others: $prefix"
}

remove_if() {
    [ ! -L "$(dirname -- "$2")" ] || return 0
    ! "$1" "$2" || remove_own "$2" || fail "Removing $2 failed. Check its rights."
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
esac
[ -f "$prefix/$MARK" ] || fail "Expected an installation in $prefix, got none."
case ${1:-} in
    status) show_status ;;
    verify) verify ;;
    stream) run_stream ;;
    restart) restart_service ;;
    upgrade) shift; read_upgrade "$@" ;;
    rollback) rollback ;;
    uninstall) uninstall ;;
    *) usage >&2; exit 2 ;;
esac
