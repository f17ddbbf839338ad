#!/usr/bin/env bash
# All tests in three groups beside each other: those with real calls mostly wait for the clock, so a machine
# with two cores does all three in the time of the longest. Each group's output comes whole when it has ended.
# Exit status 1 if any group fails.
set -u
pytest=$1
wire=(tests/caller tests/legs)
ends=(tests/e2e)
others=(tests "${wire[@]/#/--ignore=}" "${ends[@]/#/--ignore=}")
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

"$pytest" -p no:cacheprovider --durations=15 "${wire[@]}" >"$logs/wire" 2>&1 &
wire_pid=$!
"$pytest" -p no:cacheprovider --durations=15 "${ends[@]}" >"$logs/ends" 2>&1 &
ends_pid=$!
"$pytest" -p no:cacheprovider --durations=15 "${others[@]}" >"$logs/others" 2>&1 &
others_pid=$!

failed=0
wait "$others_pid" || failed=1
cat "$logs/others"
wait "$ends_pid" || failed=1
cat "$logs/ends"
wait "$wire_pid" || failed=1
cat "$logs/wire"
exit "$failed"
