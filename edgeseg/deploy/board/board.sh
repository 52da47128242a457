#!/bin/sh
# Looks after the model that install.sh put onto this board: upgrade, verify, rollback, uninstall.
# Names in capitals come from common.sh and release.env.
# shellcheck disable=SC2153
set -u
umask 022
prefix=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
# shellcheck source=common.sh
. "$prefix/common.sh"

usage() {
    cat <<USAGE
Usage: sh board.sh COMMAND

  status            which model is in use, and which was before
  verify            the masks of the golden pairs and the budget, once more; exit code 3 when one does not hold
  stream            run the stream in this terminal with the settings of stream.env
  restart           start the service again, after a change of stream.env
  upgrade ARCHIVE   check the archive (and its .sig, where this board has a key), unpack and install it
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
    set -f
    # shellcheck disable=SC2086  # several options, split at spaces as systemd does
    exec "$prefix/current/venv/bin/edgeseg" stream "$prefix/current/model.tflite" --source "$EDGESEG_SOURCE" \
        --backend "$EDGESEG_BACKEND" --threads "$EDGESEG_THREADS" --budget-ms "$EDGESEG_BUDGET_MS" \
        --view "$EDGESEG_VIEW" ${EDGESEG_MORE:-}
}

check_signature() {
    [ -f "$prefix/key.pem" ] || return 0
    [ -f "$1.sig" ] || fail "Expected the signature $1.sig, since this board takes signed archives only, got none."
    command -v openssl >/dev/null 2>&1 || fail "Expected openssl on this board to check the signature, got none."
    openssl dgst -sha256 -verify "$prefix/key.pem" -signature "$1.sig" "$1" >/dev/null 2>&1 ||
        fail "Expected an archive that was signed with this board's key, got another or a changed one: $1."
}

# What a kill or a lost supply left of an archive that was being unpacked; its name ends with its process.
remove_interrupted() {
    for left in "$prefix"/incoming.*; do
        kill -0 "${left##*.}" 2>/dev/null || rm -rf "$left"
    done
}

# Nothing of an archive is run before it was checked whole.
upgrade() {
    [ -f "$1" ] || fail "Expected an archive at $1, got none."
    check_signature "$1"
    remove_interrupted
    incoming=$prefix/incoming.$$
    mkdir "$incoming" || fail "Expected to write into $prefix. Check its rights and the room on the disk."
    trap 'rm -rf "$incoming"' EXIT
    trap 'exit 1' HUP INT TERM
    tar -xzf "$1" -C "$incoming" || fail "Expected a whole archive, got one cut short, or the disk is full: $1."
    [ -f "$incoming/install.sh" ] || fail "Expected an archive that edgeseg deploy wrote, got $1."
    sh "$incoming/install.sh" --prefix "$prefix"
    exit $?
}

rollback() {
    take_lock
    before=$(read_link previous)
    [ -f "$prefix/$before/passed" ] || fail "Expected a model before the one in use, got none."
    switch_to "$before"
    restart_service || fail "The service did not start. Its words: journalctl -u $UNIT (user: --user)"
    show_status
}

uninstall() {
    [ -f "$prefix/$MARK" ] || fail "Expected an installation in $prefix, got none."
    take_lock
    unit=$(unit_path)
    if has_systemd && grep -qsF "$prefix/" "$unit"; then
        { control_service disable --now "$UNIT" && rm -f "$unit" && control_service daemon-reload; } ||
            fail "Stopping the service failed, see above; nothing was removed."
    fi
    rm -rf "$prefix/releases" "$prefix/environments" "$prefix"/incoming.* "$prefix"/*.new ||
        fail "Removing the models in $prefix failed. Check its rights."
    for name in current previous stream.env key.pem common.sh board.sh lock "$MARK"; do rm -f "$prefix/$name"; done
    rmdir "$prefix" 2>/dev/null || echo "Left in place, since it holds files of others: $prefix"
}

case ${1:-} in
    status) show_status ;;
    verify) verify ;;
    stream) run_stream ;;
    restart) restart_service ;;
    upgrade) [ $# -eq 2 ] || fail "Expected one archive after upgrade."; upgrade "$2" ;;
    rollback) rollback ;;
    uninstall) uninstall ;;
    -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
esac
