#!/bin/sh
# A FAKE of id: says that the user is not root, so that a test never writes into /etc.
if [ "$*" = -u ]; then echo 1000; else exec /usr/bin/id "$@"; fi
