#!/bin/sh
# Copies the SQLite database into FOLDER while the dispatcher serves it: deploy/backup.sh FOLDER
# The copy is one moment of it, checked and on disk before it gets its name. Settings: .env
set -eu
umask 077
if [ $# -ne 1 ]; then
    echo "usage: deploy/backup.sh FOLDER" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
deploy/venv.sh
url=$(.venv/bin/python -c 'from shared.settings import load_or_exit; print(load_or_exit().database_address)')
if [ ! -f "${url#sqlite:///}" ]; then
    echo "the settings name no SQLite file that exists; for PostgreSQL use pg_dump" >&2
    exit 2
fi
copy="$folder/baton-$(date -u +%Y%m%dT%H%M%SZ).db"
trap 'rm -f "$copy.part" "$copy.part-journal"' EXIT
# apsw's shell has the SQLite of the dispatcher; the system's may be one that loses commits.
.venv/bin/python -m apsw "file:${url#sqlite:///}?mode=ro" "VACUUM INTO '$copy.part'"
if [ "$(.venv/bin/python -m apsw "$copy.part" 'PRAGMA integrity_check(1)')" != ok ]; then
    echo "the copy is damaged, and so is ${url#sqlite:///}" >&2
    exit 1
fi
sync "$copy.part"
mv "$copy.part" "$copy"
sync "$folder" # the name as well
echo "$copy"
