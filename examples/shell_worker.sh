#!/bin/sh
# A whole worker in POSIX sh and curl. It serves line_count {"path": "/a/file"}: the lines of a file.
#   examples/shell_worker.sh http://127.0.0.1:5000 shell-1 [--once]
set -u
url=$1 me="$2-$(date +%s)-$$" once=${3:-} grant="" # the worker_id is new for each start
call() { to=$1 body=$2; shift 2; curl -sS -m 10 -H 'Content-Type: application/json' -d "$body" "$@" "$url/$to"; }
report() { # until the dispatcher has answered: a repeat is harmless, and a lost lease (409) is an answer too
    until call submit-result "{\"worker_id\":\"$me\",$grant,$1}" -o /dev/null -w '%{http_code}' | grep -q '^[24]'
    do sleep 1; done
    grant="" work="" pulse=""
}
beat() { # every second while the work goes on: "I hold this"; if told that it is lost or cancelled, end it
    trap exit TERM # once the call under way is over: none may arrive after the goodbye
    while kill -0 $$ && kill -0 "$work"; do
        case $(call heartbeat "{\"worker_id\":\"$me\",\"holding\":[{$grant,\"running\":true}]}") in
            *'"task_id":'*) kill "$work" ;;
        esac
        sleep 1 & wait $!
    done 2> /dev/null
}
leave() { # hand back what is held, then say goodbye
    [ -z "$grant" ] || { kill "$pulse" "$work"; wait "$pulse"; report '"outcome":"released"'; } 2> /dev/null
    call exchange "{\"worker\":{\"worker_id\":\"$me\",\"state\":\"stopped\"}}" -o /dev/null
    rm -f "$out"; exit
}
trap leave TERM INT
work="" pulse="" out=$(mktemp)
while :; do
    answer=$(call get-task "{\"worker_id\":\"$me\",\"types\":[\"line_count\"]}" -f)
    grant=$(printf "%s\n" "$answer" | sed -n 's/^{"tasks":\[{\("task_id":[0-9]*,"attempt":[0-9]*,"lease_id":"[^"]*"\).*/\1/p')
    if [ -z "$grant" ]; then sleep 1; continue; fi # no work, or nobody there
    path=$(printf "%s\n" "$answer" | sed -n 's/.*"payload":{"path": *"\([^"\\]*\)"}.*/\1/p')
    wc -l < "$path" > "$out" & work=$!
    beat & pulse=$!
    wait "$work"; code=$?; kill "$pulse" 2> /dev/null; wait "$pulse"
    if [ "$code" = 0 ]; then report "\"outcome\":\"completed\",\"result\":{\"lines\":$(tr -d ' \n' < "$out")}"
    else report '"outcome":"failed","retryable":false,"error":{"type":"Unreadable","message":"no file at this path"}'
    fi
    [ "$once" != "--once" ] || leave
done
