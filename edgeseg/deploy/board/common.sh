# What install.sh and board.sh share. Sourced, not run; POSIX sh with GNU coreutils and flock, as Debian has them.
# shellcheck shell=sh disable=SC2034
UNIT=edgeseg-stream.service
MARK=.edgeseg-board

fail() {
    echo "edgeseg: $1" >&2
    exit 1
}

# Prefixes reach a systemd unit and the first line of Python's scripts, which both split at spaces.
use_prefix() {
    case $1 in
        *[!A-Za-z0-9/._-]* | [!/]*) fail "Expected a prefix from / of letters, digits and . _ - only, got $1." ;;
    esac
    prefix=$1
}

default_prefix() {
    if [ "$(id -u)" = 0 ]; then
        use_prefix /opt/edgeseg
    else
        use_prefix "${HOME:?edgeseg: HOME is not set, name a --prefix}/.local/share/edgeseg"
    fi
}

take_lock() {
    command -v flock >/dev/null 2>&1 || fail "Expected flock on this board, got none. Install the package util-linux."
    exec 9>"$prefix/lock" || fail "Expected to write into $prefix. Check its rights and the room on the disk."
    flock -n 9 || fail "Another installation works in $prefix. Wait until it has ended."
}

# Links are replaced by a rename, so that there is never a moment without one.
point() {
    { ln -sfn "$2" "$prefix/$1.new" && mv -T "$prefix/$1.new" "$prefix/$1"; } ||
        fail "Pointing $prefix/$1 to $2 failed. Check the rights and the room on the disk."
}

read_link() {
    readlink "$prefix/$1" 2>/dev/null || true
}

switch_to() {
    kept=$(read_link current)
    if [ -n "$kept" ] && [ "$kept" != "$1" ]; then
        point previous "$kept"
    fi
    point current "$1"
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
