#!/bin/bash
# job.sh FOLDER NAME [SECONDS] < script: runs a shell script in the lab guest, prints its output, ends with its code.
set -u
share=$1/share name=$2 limit=${3:-120}
rm -f "$share/out/$name.rc" "$share/out/$name.log"
cat > "$share/jobs/.$name"
mv "$share/jobs/.$name" "$share/jobs/$name.sh"
until=$((SECONDS + limit))
while [ ! -e "$share/out/$name.rc" ] && [ $SECONDS -lt $until ]; do sleep 0.3; done
cat "$share/out/$name.log"
code=$(cat "$share/out/$name.rc" 2>/dev/null || echo 124)
exit "$code"
