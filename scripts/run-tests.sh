#!/usr/bin/env bash
# All tests in three groups of even length beside each other: those with real calls mostly wait for the clock, so
# a machine with two cores does all three in the time of the longest. Each group's output comes whole when it has ended.
# Exit status 1 if any group fails.
set -u
pytest=$1
wire=(tests/caller tests/legs tests/e2e/test_demo.py)
ends=(tests/e2e --ignore=tests/e2e/test_demo.py --ignore=tests/e2e/test_bad_agents.py
  --ignore=tests/e2e/test_several_workers.py --ignore=tests/e2e/test_phone_line.py --ignore=tests/e2e/test_metrics.py)
others=(tests --ignore=tests/caller --ignore=tests/legs --ignore=tests/e2e)
more=(tests/e2e/test_bad_agents.py tests/e2e/test_several_workers.py tests/e2e/test_phone_line.py
  tests/e2e/test_metrics.py)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

"$pytest" -p no:cacheprovider --durations=15 "${wire[@]}" >"$logs/wire" 2>&1 &
wire_pid=$!
"$pytest" -p no:cacheprovider --durations=15 "${ends[@]}" >"$logs/ends" 2>&1 &
ends_pid=$!
(
  status=0
  "$pytest" -p no:cacheprovider --durations=15 "${others[@]}" || status=1
  "$pytest" -p no:cacheprovider --durations=15 "${more[@]}" || status=1
  exit "$status"
) >"$logs/others" 2>&1 &
others_pid=$!

failed=0
wait "$others_pid" || failed=1
cat "$logs/others"
wait "$ends_pid" || failed=1
cat "$logs/ends"
wait "$wire_pid" || failed=1
cat "$logs/wire"
exit "$failed"
