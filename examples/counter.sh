#!/bin/sh
# A program that goes on where it was: counts to $1, and writes how far it is into its checkpoint folder.
set -eu
memory=$BATON_CHECKPOINT_DIR/count
trap 'exit 85' TERM # told to stop: everything is written down, run me again
count=$(cat "$memory" 2>/dev/null || echo 0)
while [ "$count" -lt "$1" ]; do
    sleep 0.02
    count=$((count + 1))
    echo "$count" >"$memory.tmp" && mv "$memory.tmp" "$memory" # whole, or not there
done
echo "counted to $count in attempt $BATON_ATTEMPT"
