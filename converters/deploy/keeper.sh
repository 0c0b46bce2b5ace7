# Runs on a board while a bundle is deployed: sh -c SCRIPT keeper PLACE TOKEN PYTHON
# It creates PLACE.new-TOKEN, where other connections copy and install, and moves that to PLACE when it reads "switch".
# By then, ownership.py has put the user's files of the old bundle into the new one. When it reads "clear", it removes
# the old bundle. When its stdin closes, for example because the other side was killed, it ends what the other
# connections run and, before the switch, removes the new folder. So PLACE is always a complete bundle, except between
# two renames: if power fails then, the next deployment puts the old bundle back.
set -u
place=$1
token=$2
python=$3
# The reader may be gone when we write; that must not end us.
trap '' PIPE

say() {
  printf 'edge-ocr %s\n' "$*"
}

refuse() {
  say refused "$1"
  exit 1
}

is_there() {
  [ -e "$1" ] || [ -L "$1" ]
}

# A link may lead to something that is not ours.
is_folder() {
  [ -d "$1" ] && [ ! -L "$1" ]
}

# The name manifest.json alone proves nothing.
is_bundle() {
  grep -q '"edge_ocr_version"' "$1/manifest.json" 2>/dev/null
}

# Only a bundle, an empty folder or a missing one may be replaced.
check_place() {
  if [ -d "$place" ]; then
    is_bundle "$place" || [ -z "$(ls -A "$place")" ] || refuse foreign
  elif is_there "$place"; then
    refuse foreign
  fi
}

# put_back PLACE, which is missing: a deployment may have been interrupted between its two renames.
put_back() {
  found=
  for left in "$1".old-*; do
    if ! is_folder "$left" || ! is_bundle "$left"; then continue; fi
    # If there are several, it is unknown which was the last.
    [ -z "$found" ] || return
    found=$left
  done
  [ -z "$found" ] || { mv -- "$found" "$1" && say restored "$found"; }
}

find_group() {
  read -r _ _ _ _ group _ <"/proc/$1/stat"
}

end_job() {
  job=
  { read -r job <"$folder/.deploy-job"; } 2>/dev/null
  case $job in '' | *[!0-9]*) return ;; esac
  # If the server puts all commands of a connection into one process group, killing it would end us, too.
  find_group $$
  [ "$job" = "$group" ] || kill -9 "-$job" 2>/dev/null
}

tidy_up() {
  trap '' HUP INT TERM
  # A job that is just starting may still create a file.
  for _ in 1 2 3 4 5; do
    end_job
    rm -rf -- "$folder" && say tidied && return
    sleep 1
  done
}

home=$(cd && pwd -P)
case $place in
  /*) ;;
  *)
    [ -n "$home" ] || refuse home
    place=$home/$place
    ;;
esac
if [ ! -e "$place" ]; then
  missing=$(readlink -f "$place" 2>/dev/null)
  put_back "${missing:-$place}"
fi
# Resolve links: the new folder must be on the same file system as the old one.
if [ -d "$place" ]; then
  place=$(cd "$place" && pwd -P) || refuse unreadable
else
  parent=$(cd "${place%/*}/" 2>/dev/null && pwd -P) || refuse parent
  place=${parent%/}/${place##*/}
fi
say place "$place"
case $home/ in "${place%/}"/*) refuse foreign ;; esac
check_place
[ ! -f "$place/manifest.json" ] || say replaces yes
say machine "$(uname -m)"
say python "$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)"
# Run it in /, because a json.py in the current folder would be imported.
say facts "$(cd / && "$python" -c '
import json, platform, struct, sys, sysconfig
from importlib.util import find_spec
library, version = platform.libc_ver()
print(json.dumps({
    "machine": platform.machine(),
    "bits": 8 * struct.calcsize("P"),
    "multiarch": str(sysconfig.get_config_var("MULTIARCH") or ""),
    "glibc": version if library == "glibc" else None,
    "python": sys.executable,
    "has_onnxruntime": find_spec("onnxruntime") is not None,
}))' 2>/dev/null)"
command -v tar >/dev/null || refuse tar
say free "$(df -Pk "${place%/*}/" | tail -n 1)"
for left in "$place".new-* "$place".old-*; do
  [ ! -e "$left" ] || say left "$left"
done

folder=$place.new-$token
old=$place.old-$token
mkdir -- "$folder" || refuse unwritable
trap tidy_up EXIT
trap 'exit 1' HUP INT TERM
say ready

read -r word
[ "$word" = switch ] || exit 1
rm -f -- "$folder/.deploy-job"
# Write everything to disk, in case the board is switched off next. This may take minutes.
sync
check_place
trap '' HUP INT TERM
if [ -e "$place" ]; then
  mv -- "$place" "$old" || refuse switch
fi
if ! mv -- "$folder" "$place"; then
  [ ! -e "$old" ] || mv -- "$old" "$place"
  refuse switch
fi
folder=$place
trap 'end_job; rm -f -- "$folder/.deploy-job"' EXIT
trap 'exit 1' HUP INT TERM
[ ! -e "$old" ] || say old "$old"
say switched
read -r word
[ "$word" = clear ] || exit 0
rm -rf -- "$old" || say left "$old"
say cleared
read -r word
