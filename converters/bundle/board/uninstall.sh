#!/bin/sh
# Removes what install.sh made in this bundle, and nothing else.
here=$(dirname "$(readlink -f "$0")")
cd "$here" || exit 2

if ! rm -rf .installed .installed.new .installed.old; then
  echo "Error: $here/.installed could not be removed" >&2
  echo "Hint: run this as the user that ran install.sh" >&2
  exit 2
fi
echo "nothing of install.sh is left in $here; to remove the bundle, delete the folder" >&2
