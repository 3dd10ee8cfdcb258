#!/bin/bash
# job.sh FOLDER NAME [SECONDS] < script: runs a shell script in the lab guest, prints its output, ends with its code; with 124 if nothing
# new is printed for so long.
set -u
share=$1/share name=$2 limit=${3:-120}
rm -f "$share/out/$name.rc" "$share/out/$name.log"
cat > "$share/jobs/.$name"
mv "$share/jobs/.$name" "$share/jobs/$name.sh"
printed=-1
while [ ! -e "$share/out/$name.rc" ]; do
    now=$(stat -c %s "$share/out/$name.log" 2>/dev/null || echo 0)
    [ "$now" = $printed ] || { printed=$now; until=$((SECONDS + limit)); }
    [ $SECONDS -lt $until ] || break
    sleep 0.3
done
cat "$share/out/$name.log"
code=$(cat "$share/out/$name.rc" 2>/dev/null || echo 124)
exit "$code"
