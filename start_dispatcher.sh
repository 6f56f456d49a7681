#!/bin/sh
# Runs the dispatcher in the foreground; Ctrl-C or SIGTERM stops it cleanly. Settings: .env; --help lists what else it does.
set -eu
cd "$(dirname "$(readlink -f "$0")")"
deploy/venv.sh
exec .venv/bin/python -m dispatcher "$@"
