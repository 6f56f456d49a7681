#!/bin/sh
# Stops the dispatcher and workers whose records are in DATA_DIR, by pid. With --data it also removes the
# data folder, after naming what goes; --help lists the options.
set -eu
cd "$(dirname "$(readlink -f "$0")")"
deploy/venv.sh
exec .venv/bin/python -m shared.cleanup "$@"
