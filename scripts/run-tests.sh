#!/usr/bin/env bash
# run-tests.sh PYTEST [COMPILED]: all tests, and some of them again with the telbridge that `make compiled` puts into
# that folder. Those with real calls run in two lanes, batch after batch: they mostly wait for the clock. Those without
# take what the calls leave of the machine. The output of each batch comes whole when it has ended; SIGTERM (a time
# limit) brings what there is of the others. Exit status 1 if any fails.
set -u
pytest=$1
compiled=${2:+$PWD/$2}
logs=$(mktemp -d)
export pytest compiled logs
calls=(
  "tests/e2e/test_calls.py"
  "tests/legs/test_sip_guard.py"
  "tests/legs/test_sip_keys_out.py tests/legs/test_sip_calls.py"
  "tests/e2e/test_stream_calls.py tests/e2e/test_carrier_calls.py"
  "tests/e2e/test_bad_agents.py tests/e2e/test_several_workers.py"
  "tests/caller tests/legs/test_sip_transfer.py"
)
# What nobody named: new files are never forgotten.
named="${calls[*]}"
calls=("tests/e2e ${named//tests\//--ignore=tests/}" "tests/legs ${named//tests\//--ignore=tests/}" "${calls[@]}")
# The way of a frame again, pure and with real calls.
pure="tests/test_compiled.py tests/call tests/sockets tests/sessions/openai tests/sessions/test_connection.py"
[ -z "$compiled" ] ||
  calls+=("compiled:tests/legs/test_sip_calls.py tests/legs/test_stream_calls.py tests/legs/test_stream_delay.py")
others="tests --ignore=tests/caller --ignore=tests/legs --ignore=tests/e2e"

batch() { # words for pytest; the rest is said before it
  local log status=0 words=${1#compiled:} environment=()
  if [ "$words" != "$1" ]; then
    environment=(env PYTHONSAFEPATH=1 "PYTHONPATH=$compiled:$PWD" TELBRIDGE_REQUIRE_COMPILED=1)
    words+=" -o pythonpath="
    until [ -e "$logs/compiled" ]; do sleep 1; done
  fi
  log=$(mktemp "$logs/XXXXXX")
  # shellcheck disable=SC2086 # they are words
  "${@:2}" "${environment[@]}" "$pytest" -p no:cacheprovider --durations=10 $words >"$log" 2>&1 || status=1
  flock "$logs" cat "$log"
  rm -f "$log"
  return "$status"
}
export -f batch

ended() { # also those that a time limit cuts off
  kill -- "-$others_pid" "-$calls_pid" "-$compiling_pid" 2>/dev/null
  cat "$logs"/* 2>/dev/null
  rm -rf "$logs"
}
set -m # each job a process group of its own, so that it ends with all that it started
(
  status=0
  [ -z "$compiled" ] || env -u MAKEFLAGS -u MFLAGS nice -n 15 make --no-print-directory compiled || status=1
  touch "$logs/compiled"
  exit "$status"
) &
compiling_pid=$!
(
  status=0
  batch "$others" nice -n 10 || status=1
  [ -z "$compiled" ] || batch "compiled:$pure" nice -n 10 || status=1
  exit "$status"
) &
others_pid=$!
printf '%s\n' "${calls[@]}" | xargs -d '\n' -n 1 -P 2 bash -c 'batch "$1"' _ &
calls_pid=$!
trap ended EXIT
trap 'exit 1' TERM INT

failed=0
wait "$compiling_pid" || failed=1
wait "$calls_pid" || failed=1
wait "$others_pid" || failed=1
exit "$failed"
