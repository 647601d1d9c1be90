#!/usr/bin/env bash
# Run every finding, or those named, and say which still hold.
#
#   findings/run.sh [NAME ...]
#
# A finding is a surprise of outside software that users of hierarchical softmax and label trees
# meet. Its script installs pinned public packages in a temporary folder, runs them without this
# project on valid input, prints what it sees, and fails if that is no longer so.
set -u
cd "$(dirname "$0")" || exit 2
names=("$@")
[ ${#names[@]} -gt 0 ] || for path in *.sh; do
  [ "$path" = run.sh ] || [ "$path" = prepare.sh ] || names+=("${path%.sh}")
done
held=0 changed=0
for name in "${names[@]}"; do
  if output=$(bash "$name.sh" 2>&1); then
    held=$((held + 1))
    echo "holds    $name"
  else
    changed=$((changed + 1))
    echo "changed  $name"
    printf '%s\n' "$output" | tail -n 5 | sed 's/^/         /'
  fi
done
echo "$held hold, $changed changed"
[ "$changed" -eq 0 ]
