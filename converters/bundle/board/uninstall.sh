#!/bin/sh
# Removes only what install.sh made in this bundle.
here=$(dirname "$(readlink -f "$0")")
cd "$here" || exit 2

if ! rm -rf .installed .installed.new .installed.old; then
  echo "Error: cannot remove $here/.installed" >&2
  echo "Hint: run this as the user that ran install.sh" >&2
  exit 2
fi
echo "removed what install.sh made in $here; to remove the bundle itself, delete that folder" >&2
