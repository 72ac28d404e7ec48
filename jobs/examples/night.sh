#!/bin/sh
# The night of yesterday, in UTC: `night.sh score CONFIG ...` or `night.sh submit CONFIG ...`. Its name, rows and folders
# follow from the date, so that the same command again, until midnight, resumes it. FIRST is the day of the first night.
set -eu
day=$(date -u -d "${TODAY:-now} - 1 day" +%F)
before=$(date -u -d "$day - 1 day" +%F)
after=$(date -u -d "$day + 1 day" +%F)
tables=${TABLES:-/tables}
if [ "$day" != "${FIRST:-}" ]; then
  set -- "$@" --set "state.read=$tables/state/$before"
fi
exec slotcar "$@" --set "run_id=nightly-$day" --set "input.since=$day" --set "input.until=$after" \
  --set "output.path=$tables/scores/$day" --set "state.write=$tables/state/$day"
