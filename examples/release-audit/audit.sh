#!/usr/bin/env bash
# Audit a release: measure, judge, write what people and machines read, sign it, and exit with the gate's status.
#
#   audit.sh [--resume] BASE UNLEARNED POLICY OUT [KEY]
#
# --resume goes on with what an audit into OUT had done that was cancelled.
# OUT gets report.h5, page.html, summary.md, junit.xml and, where there is a KEY, report.h5.intoto.json. After a mistake in
# the input, a bug, or where it was cancelled, there are summary.md and junit.xml, which say so.
# TIER=0,1,2 (or none) in the environment names the tiers of attacks; else they are 0, 1 and what the policy requires.
# REFERENCE=MODEL there names a model that never knew, which a policy that asks for "gone" needs; REFERENCE_KIND is how it
# came about (retrained, or before).
# Exit status: 0 passed, 1 failed, 2 a mistake in the input, 3 too little evidence, 4 a bug in ckdiff. Only 0 may release.
set -uo pipefail

resume=
if [[ ${1:-} == --resume ]]; then
  resume=$1
  shift
fi
if [[ $# -lt 4 || $# -gt 5 ]]; then
  echo "usage: audit.sh [--resume] BASE UNLEARNED POLICY OUT [KEY]" >&2
  exit 2
fi
base=$1 unlearned=$2 policy=$3 out=$4 key=${5:-}
# Papers of an earlier audit must not be taken for those of this one, whatever comes.
if [[ -d $out ]]; then
  rm -f "$out"/{report.h5,report.h5.intoto.json,page.html,summary.md,junit.xml} || exit 2
  [[ -w $out ]] || { echo "$out: cannot be written into; name another directory" >&2; exit 2; }
fi
# Hours of work should not end in a misspelt name, or in a secret that nobody has set.
for file in ${key:+"$key" "$key.pub"}; do
  grep -qs -e '-----BEGIN' "$file" || { echo "$file: no key can be read; \`ckdiff attest --new-key $key\` makes both files of one" >&2; exit 2; }
done
mkdir -p "$out" || exit 2
report=$out/report.h5

log=$(mktemp) || exit 2
trap 'rm -f "$log"' EXIT
# no_result STATUS WHY: a summary and a JUnit file without a result, whatever was there.
no_result() {
  cat "$log" >&2
  printf '# ckdiff audit: exit status %s\n\nThere is no result.\n\n' "$1" > "$out/summary.md"
  { cat "$log"; echo "audit.sh: $2"; } | sed 's/^/    /' >> "$out/summary.md"
  grep -qs '<error' "$out/junit.xml" && return
  printf '%s\n' '<?xml version="1.0" encoding="UTF-8"?>' '<testsuite name="ckdiff" tests="1" failures="0" errors="1" skipped="0" time="0">' \
    "  <testcase classname=\"ckdiff.command\" name=\"audit\" time=\"0\"><error type=\"no result\" message=\"$2\"/></testcase>" \
    '</testsuite>' > "$out/junit.xml"
}
# Who is cancelled leaves no audit that goes on and writes a report afterwards, and no paper that says that it passed.
child=
stop() {
  trap '' INT TERM
  [[ -z $child ]] || { kill -TERM "$child" && wait "$child"; } 2>/dev/null
  no_result "$1" "interrupted: it was cancelled"
  echo "audit.sh: interrupted; the same with --resume as the first argument goes on" >&2
  exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM
ckdiff audit "$base" "$unlearned" --policy "$policy" ${TIER:+--tier "$TIER"} \
  ${REFERENCE:+--reference "$REFERENCE" --reference-kind "${REFERENCE_KIND:-retrained}"} ${resume:+"$resume"} --output "$report" --overwrite --format junit \
  > "$out/junit.xml" 2> "$log" &
child=$!
wait "$child"
status=$?
child=
# 2 and 4: there is no report of this audit. Whatever else the shell says (a signal) is no verdict either.
if [[ ! ($status -le 1 || $status -eq 3) || ! -s $report ]]; then
  [[ $status -ne 0 ]] || status=2
  no_result "$status" "exit status $status"
  exit "$status"
fi
cat "$log" >&2
: > "$log"

# A verdict without its papers is no release: what fails from here on fails the release, and no paper says that it passed.
late() {
  "$@" 2> "$log" && { cat "$log" >&2; return; }
  local failed=$?
  [[ $status -ne 0 ]] && cat "$log" >&2 || no_result "$failed" "the gate passed, and then ckdiff $2 failed: no release"
  exit "$failed"
}
late ckdiff html "$report" --output "$out/page.html" --overwrite
late ckdiff show "$report" --section verdict --format md > "$out/summary.md"
cat "$out/summary.md"
if [[ -n $key ]]; then
  late ckdiff attest "$report" --key "$key"
fi
late ckdiff verify "$report" --base "$base" --unlearned "$unlearned" --policy "$policy" ${key:+--key "$key.pub"} --require-passed
exit "$status"
