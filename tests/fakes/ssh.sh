#!/bin/sh
# A FAKE of ssh and scp: $REMOTE is the other machine's home, or $FLEET/HOST/home where there are many. Copies there, and
# runs what it is told there. In $FLEET/HOST, a file `down` is a board that is off, `full` one without room for a copy,
# `hangs` one that never answers, and `bin` holds its own programs.
while :; do
    case $1 in
        -o | -p | -P | -l) shift 2 ;;
        -*) shift ;;
        *) break ;;
    esac
done
case $0 in
    *scp) place=$2 ;;
    *) place=$1 ;;
esac
if [ -n "${FLEET:-}" ]; then
    host=${place%%:*}
    board=$FLEET/${host#*@}
    if [ ! -d "$board" ] || [ -e "$board/down" ]; then
        echo "ssh: connect to host $host port 22: No route to host" >&2
        exit 255
    fi
    [ ! -e "$board/hangs" ] || exec sleep 60
    REMOTE=$board/home
    export HOOK="$board/hook" PATH="$board/bin:$PATH"
fi
case $0 in
    *scp)
        if [ -e "${board:-}/full" ]; then
            : >"$REMOTE/${2#*:}"
            echo "scp: write remote \"${2#*:}\": No space left on device" >&2
            exit 1
        fi
        exec cp "$1" "$REMOTE/${2#*:}"
        ;;
    *) cd "$REMOTE" && HOME=$REMOTE exec sh -c "$2" ;;
esac
