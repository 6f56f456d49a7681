#!/bin/sh
# Runs a worker in the foreground: ./start_worker.sh [NAME]; --help lists the options.
set -eu
cd "$(dirname "$(readlink -f "$0")")"
deploy/venv.sh
exec .venv/bin/python -m worker "$@"
