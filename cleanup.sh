#!/bin/sh
# Stops the dispatcher and workers started from this checkout, by recorded pid. With --data it also
# removes the data folder, after naming what goes.
set -eu
cd "$(dirname "$0")"
if [ "${1:-}" != "" ] && [ "${1:-}" != "--data" ]; then
    echo "usage: ./cleanup.sh [--data]" >&2
    exit 2
fi
deploy/venv.sh
exec .venv/bin/python -m shared.cleanup "$@"
