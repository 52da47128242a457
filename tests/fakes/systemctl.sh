#!/bin/sh
# A FAKE of systemctl, since no systemd can run in a test: it notes what it is asked in $SYSTEMCTL_LOG. Without a log it
# does what the real one does where systemd does not run: it fails. A file $SYSTEMCTL_LOG.broken lets one restart fail.
[ -n "${SYSTEMCTL_LOG:-}" ] || exit 1
echo "$*" >>"$SYSTEMCTL_LOG"
case $* in
    *restart*) ! rm "$SYSTEMCTL_LOG.broken" 2>/dev/null ;;
esac
