#!/usr/bin/env bash
# The job, for a terminal, cron, a container or a scheduler: starts the run, or goes on with it. Started again it does no
# harm. After a crash it tries again from the last checkpoint; SIGTERM saves and ends it.
#
#   bash jobs/train.sh [OPTIONS of ostinato train]        PYTHON, CONFIG and TRIES may be set
#
# Exit code: that of `ostinato train`. 0 done; 75 stopped and saved, start it again; 2 and 3 want a person; 1 crashed.
set -u
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3} config=${CONFIG:-{{example}}} tries=${TRIES:-3}
child="" stopping=0
trap 'stopping=1; [ -n "$child" ] && kill -TERM "$child" 2>/dev/null' TERM INT HUP

for ((try = 1; try <= tries; try++)); do
    "$python" -m ostinato train "$config" --resume "$@" &
    child=$!
    wait "$child"
    code=$?
    if [ "$stopping" = 1 ] && [ "$code" -gt 128 ]; then # the signal ended the wait, not the run
        wait "$child"
        code=$?
    fi
    [ "$stopping" = 1 ] && break
    case $code in 0 | 2 | 3 | 75) break ;; esac
    echo "try $try of $tries ended with exit code $code" >&2
done
exit "$code"
