# What install.sh and board.sh share. Sourced, not run; POSIX sh with GNU coreutils and flock, as Debian has them.
# shellcheck shell=sh disable=SC2034
UNIT=edgeseg-stream.service
MARK=.edgeseg-board
OWN=.edgeseg
downgrade=no

fail() {
    echo "edgeseg: $1" >&2
    exit 1
}

# Prefixes reach a systemd unit and the first line of Python's scripts, which both split at spaces. Links and .. are
# resolved, so that two names of one folder are never taken for two.
use_prefix() {
    case $1 in
        '' | *[!A-Za-z0-9/._-]* | [!/]*) fail "Expected a prefix from / of letters, digits and . _ - only, got '$1'." ;;
    esac
    prefix=$(readlink -m -- "$1") || fail "Expected a prefix that can be looked up, got $1."
    case $prefix in
        *[!A-Za-z0-9/._-]*) fail "Expected a prefix of letters, digits and . _ - only, got $1, which is '$prefix'." ;;
    esac
}

default_prefix() {
    if [ "$(id -u)" = 0 ]; then
        use_prefix /opt/edgeseg
    else
        use_prefix "${HOME:?edgeseg: HOME is not set, name a --prefix}/.local/share/edgeseg"
    fi
}

# A prefix is new, or empty but for settings and key, or edgeseg's already; what is in a folder of others is not ours to
# clean up.
check_prefix() {
    if [ "$prefix" = / ] || [ "$prefix" = "$(readlink -m -- "${HOME:-/}")" ]; then
        fail "Expected a folder for edgeseg alone, got $prefix. Name one below it."
    fi
    check_owners
    [ ! -e "$prefix" ] || [ -d "$prefix" ] || fail "Expected a folder at $prefix, got something else."
    [ ! -L "$prefix/$MARK" ] || fail "Expected a file at $prefix/$MARK, got a link."
    [ ! -f "$prefix/$MARK" ] || return 0
    for entry in "$prefix"/* "$prefix"/.[!.]* "$prefix"/..?*; do
        [ -e "$entry" ] || [ -L "$entry" ] || continue
        case ${entry##*/} in
            stream.env | key.pem) ;;
            *) fail "Expected a new or an empty folder for edgeseg, got $prefix with ${entry##*/} in it." ;;
        esac
    done
}

# What root runs must not lie where somebody else can put something else in its place.
check_owners() {
    place=$prefix
    while [ -n "$place" ]; do
        [ ! -e "$place" ] || check_owner "$place"
        [ "$(id -u)" = 0 ] || break
        place=${place%/*}
    done
}

check_owner() {
    facts=$(stat -c '%u:%g:%a' -- "$1") || fail "Expected to look at $1."
    case $facts in
        0:* | "$(id -u)":*) ;;
        *) fail "Expected a folder of root's or your own, got $1 of $(stat -c %U -- "$1")." ;;
    esac
    case $facts in
        *[2367])
            if [ "$1" = "$prefix" ] || [ ! -k "$1" ]; then
                fail "Expected a folder that not everybody may change, got $1."
            fi
            ;;
        0:0:*) ;;
        0:*[2367]?) [ "$(id -u)" != 0 ] || fail "Expected a folder that only root may change, got $1." ;;
    esac
}

take_lock() {
    command -v flock >/dev/null 2>&1 || fail "Expected flock on this board, got none. Install the package util-linux."
    exec 9>>"$prefix/lock" || fail "Expected to write into $prefix. Check its rights and the room on the disk."
    flock -n 9 || fail "Another installation works in $prefix. Wait until it has ended."
}

# A folder below the prefix is edgeseg's where it has the file $OWN, or looks as those before that file did, and nothing
# else is in it; the arguments are the folder, a pattern for names from before, what was in them, and what may be.
is_own() {
    [ -d "$1" ] && [ ! -L "$1" ] || return 1
    if [ ! -f "$1/$OWN" ] && [ -n "$(ls -A -- "$1")" ]; then
        printf '%s\n' "${1##*/}" | grep -Eqx "$2" && [ -f "$1/$3" ] || return 1
    fi
    ! find "$1" -mindepth 1 -maxdepth 1 -printf '%f\0' | grep -zEvqx "$4|$OWN"
}

is_own_release() {
    is_own "$1" '.*-[0-9a-f]{12}' model.tflite 'model\.tflite(\.new)?|venv|\.?verify\.json.*|passed'
}

is_own_environment() {
    is_own "$1" '[0-9a-f]{12}' pyvenv.cfg 'bin|include|lib|lib64|share|etc|man|doc|pyvenv\.cfg|ready|\.gitignore'
}

# The file that says whose the folder is goes last, so that an interruption can be gone on from.
remove_own() {
    find "$1" -mindepth 1 -maxdepth 1 ! -name "$OWN" -exec rm -rf -- {} + && rm -f -- "$1/$OWN" && rmdir -- "$1"
}

make_own() {
    { mkdir -- "$1" && : >"$1/$OWN"; } || fail "Making $1 failed. Check the rights and the room on the disk."
}

# Links are replaced by a rename, so that there is never a moment without one.
point() {
    { ln -sfn "$2" "$prefix/$1.new" && mv -T "$prefix/$1.new" "$prefix/$1"; } ||
        fail "Pointing $prefix/$1 to $2 failed. Check the rights and the room on the disk."
}

read_link() {
    readlink "$prefix/$1" 2>/dev/null || true
}

# Two links cannot be replaced at once; the third one says what a kill in between has left undone.
switch_to() {
    kept=$(read_link current)
    if [ -n "$kept" ] && [ "$kept" != "$1" ]; then
        point leaving "$kept"
        point current "$1"
        point previous "$kept"
        rm -f "$prefix/leaving"
    else
        point current "$1"
    fi
}

finish_switch() {
    left=$(read_link leaving)
    [ -n "$left" ] || return 0
    [ "$(read_link current)" = "$left" ] || point previous "$left"
    rm -f "$prefix/leaving"
}

# Uses a release, or goes back to the one before where the service does not start with it. From here on a signal changes
# nothing: the exit code says which of the two is in use.
put_in_use() {
    trap '' HUP INT TERM
    before=$(read_link current) older=$(read_link previous)
    switch_to "$1"
    restart_service && return 0
    if [ -n "$before" ] && [ "$before" != "$1" ]; then
        point current "$before"
        if [ -n "$older" ]; then point previous "$older"; else rm -f "$prefix/previous"; fi
        restart_service
        fail "The service did not start with ${1##*/}: back to $before. Its words: journalctl -u $UNIT (user: --user)"
    fi
    fail "The service did not start. Its words: journalctl -u $UNIT (user: --user). Check $prefix/stream.env."
}

# When an archive was packed; those from before that was written down are older than any.
read_built() {
    sed -n "s/^BUILT='\([0-9]\{1,15\}\)'\$/\1/p" "$1" 2>/dev/null | tail -n 1
}

# An archive whose signature is right may be an old one, with faults that were mended since.
refuse_older() {
    built=$(read_built "$1/release.env") newest=$(read_built "$prefix/newest")
    if [ "${built:-0}" -lt "${newest:-0}" ] && [ "$downgrade" != yes ]; then
        fail "Expected an archive that is no older than the newest one that was in use here, got one packed $(
            date -u -d "@${built:-0}" +%F), and not $(date -u -d "@$newest" +%F) or later. To go back nevertheless: --downgrade"
    fi
}

# Parity with the golden pairs, then the budget; 0 where both hold.
verify_release() {
    # shellcheck source=/dev/null
    . "$prefix/stream.env"
    set -- "$1/model.tflite" "$1/venv/bin/edgeseg" "$1/verify.json"
    "$2" bench "$1" --parity --backend "$EDGESEG_BACKEND" --threads "$EDGESEG_THREADS" &&
        "$2" bench "$1" --backend "$EDGESEG_BACKEND" --threads "$EDGESEG_THREADS" \
            --budget-ms "$EDGESEG_BUDGET_MS" --json "$3"
}

control_service() {
    if [ "$(id -u)" = 0 ]; then
        systemctl "$@"
    else
        systemctl --user "$@"
    fi
}

has_systemd() {
    command -v systemctl >/dev/null 2>&1 && control_service show-environment >/dev/null 2>&1
}

# systemd starts no service in a group that does not exist.
list_groups() {
    for group in video render plugdev apex; do
        ! getent group "$group" >/dev/null || printf '%s ' "$group"
    done
}

unit_path() {
    if [ "$(id -u)" = 0 ]; then
        echo "/etc/systemd/system/$UNIT"
    else
        echo "${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/$UNIT"
    fi
}

# With Type=notify this returns when the first mask is there, or fails.
restart_service() {
    if has_systemd; then
        control_service restart "$UNIT"
    else
        echo "systemd does not answer here, so no service is started. Start the stream with: sh $prefix/board.sh stream"
    fi
}
