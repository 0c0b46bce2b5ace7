# Runs on a board while a bundle is deployed: sh -c SCRIPT keeper PLACE TOKEN PYTHON
# It makes PLACE.new-TOKEN, in which other connections copy and install, and puts that in place when it reads "switch".
# When its stdin closes, be it that the other side was killed, it ends what these run; before the switch, it removes the
# folder, too. So PLACE is always a whole bundle: the old one or the new one.
set -u
place=$1
token=$2
python=$3
# Who listens may be gone when something is said; that must not end us.
trap '' PIPE

say() {
  printf 'edge-ocr %s\n' "$*"
}

refuse() {
  say refused "$1"
  exit 1
}

# A bundle of ours, an empty folder or nothing may be replaced. That a file is called manifest.json proves nothing.
check_place() {
  if [ -d "$place" ]; then
    grep -q '"edge_ocr_version"' "$place/manifest.json" 2>/dev/null || [ -z "$(ls -A "$place")" ] || refuse foreign
  elif [ -e "$place" ] || [ -L "$place" ]; then
    refuse foreign
  fi
}

find_group() {
  read -r _ _ _ _ group _ <"/proc/$1/stat"
}

end_job() {
  job=
  { read -r job <"$folder/.deploy-job"; } 2>/dev/null
  case $job in '' | *[!0-9]*) return ;; esac
  # Servers that give a connection, not a command, its process group would end us, too.
  find_group $$
  [ "$job" = "$group" ] || kill -9 "-$job" 2>/dev/null
}

tidy_up() {
  trap '' HUP INT TERM
  # A job that is just starting may still make a file.
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
# Where a link leads: the new folder must be on the file system of the old one.
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
check_place
# So that a board that is switched off next has whole files.
sync
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
rm -rf -- "$old" || say left "$old"
say switched
read -r word
