#!/bin/sh
# Sets this bundle up on a board. It writes only to .installed/ in the bundle, which uninstall.sh removes.
set -u

usage="Usage: ./install.sh [--python PATH] [--pip] [--engine NAME] [--no-selftest]

  --python PATH   Python 3.9 or newer to run with (default: python3)
  --pip           install missing modules with pip, into a virtual environment in the bundle
  --engine NAME   paddle_lite or onnxruntime (default: the first that runs here)
  --no-selftest   skip reading the bundle's test picture at the end"

say() {
  printf '%s\n' "$1" >&2
}

# fail CODE MESSAGE HINT: the codes are the same as those of edge-ocr-lite.
fail() {
  say "Error: $2"
  say "Hint: $3"
  exit "$1"
}

given=
pip=
engine=
selftest=yes
while [ $# -gt 0 ]; do
  case $1 in
    --python)
      [ $# -gt 1 ] || fail 2 "--python needs the path of an interpreter" "run ./install.sh --python /usr/bin/python3"
      given=$2
      shift
      ;;
    --python=*) given=${1#*=} ;;
    --pip) pip=yes ;;
    --engine)
      engine=${2-}
      case $engine in
        paddle_lite | onnxruntime) ;;
        *) fail 2 "--engine ${engine:-needs a name}" "choose paddle_lite or onnxruntime" ;;
      esac
      shift
      ;;
    --no-selftest) selftest= ;;
    -h | --help)
      printf '%s\n' "$usage"
      exit 0
      ;;
    *) fail 2 "unknown argument $1" "run ./install.sh --help" ;;
  esac
  shift
done
if [ -n "$given" ]; then
  found=$(command -v "$given") || fail 6 "--python $given: no such program" "leave --python out to use python3"
  case $found in
    /*) given=$found ;;
    *) given=$PWD/$found ;;
  esac
fi

here=$(dirname "$(readlink -f "$0")")
cd "$here" || fail 5 "cannot enter $here" "make it readable for $(id -un)"
case $here in
  *:*) fail 2 "$here: Python cannot import from a path that contains a colon" "move the bundle" ;;
esac
if [ ! -f manifest.json ] || [ ! -f runtime/edge_ocr_lite/__main__.py ]; then
  fail 5 "$here: is not a complete bundle: manifest.json or runtime/ is missing" "copy or unpack it again"
fi
# A failed installation must leave nothing behind, not even a __pycache__ in runtime/.
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$here/runtime${PYTHONPATH:+:$PYTHONPATH}"

# run_python PYTHON ARGUMENT...: outside the bundle, because Python imports from the current folder first, and a json.py
# there must not be imported.
run_python() {
  (cd / && exec "$@")
}

# Until an installation is finished, .installed.old is the previous one, or an empty folder if there was none.
settle() {
  rm -rf .installed.new
  if [ -d .installed.old ]; then
    rm -rf .installed
    mv .installed.old .installed
    rmdir .installed 2>/dev/null
  fi
}
settle
trap settle EXIT
trap 'exit 130' INT
trap 'exit 143' HUP PIPE TERM

# --- Python: the one that ./edge-ocr-lite uses, unless --python names another

python=$given
if [ -z "$python" ]; then
  python=$here/.installed/venv/bin/python
  [ -x "$python" ] || python=$(cat .installed/python 2>/dev/null)
  [ -x "$python" ] || python=$(command -v python3) || fail 6 "python3 is missing" "run sudo apt install python3"
fi
version=$(run_python "$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])') ||
  fail 6 "$python does not start" "name another: ./install.sh --python PATH"
run_python "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
  fail 6 "$python is Python $version, expected 3.9 or newer" "name a newer one: ./install.sh --python PATH"

# --- the engine that both bundle and board support

info=$(run_python "$python" -m edge_ocr_lite info --bundle "$here") || exit
# Sets abi; code, problem and hint if Paddle-Lite cannot be used here; build if the bundle lacks its shim; onnx if the
# bundle has the ONNX graphs.
facts=$(
  run_python "$python" - "$info" "$here/manifest.json" <<'END'
import json, shlex, sys

info = json.loads(sys.argv[1])
with open(sys.argv[2], encoding="utf-8") as file:
    manifest = json.load(file)
abi, glibc = info["abi"], info["glibc"]
library = manifest["lite"]["libraries"].get(abi, {})
needed = library.get("min_glibc")


def parse(version):
    return [int(number) for number in version.split(".")]


code, problem, hint, build = 0, "", "export the bundle again with --with-onnx", ""
if not library.get("file") or not library.get("version_matches"):
    code, problem = 5, info["engines"]["paddle_lite"]
    if abi:
        fetch = f"edge-ocr libs fetch --platform armlinux.{abi}"
        hint = f"on the host, run {fetch}, then export the bundle again with --arch {abi}, or with --with-onnx"
elif glibc is None:
    code, problem = 6, "Paddle-Lite needs glibc, but this system has another C library"
elif needed and parse(glibc) < parse(needed):
    code, problem = 6, f"Paddle-Lite's library needs glibc {needed}, but this system has {glibc}"
elif not library.get("shim"):
    build = "yes"
onnx = "yes" if manifest.get("onnx") else ""
for name in ("abi", "code", "problem", "hint", "build", "onnx"):
    print(f"{name}={shlex.quote(str(globals()[name]))}")
END
) || fail 5 "cannot read $here/manifest.json" "copy or unpack the bundle again"
abi='' code='' problem='' hint='' build='' onnx=''
eval "$facts"

case $engine in
  paddle_lite) onnx='' ;;
  onnxruntime)
    [ -n "$onnx" ] || fail 5 "the bundle has no ONNX graphs" "export the bundle again with --with-onnx"
    code=5 problem="chosen by --engine" build=''
    ;;
esac

modules="numpy cv2 pyclipper"
if [ "$code" = 0 ]; then
  say "engine: paddle_lite ($abi)"
elif [ -n "$onnx" ]; then
  say "engine: onnxruntime ($problem)"
  modules="$modules onnxruntime"
else
  fail "$code" "$problem" "$hint"
fi

# find_missing PYTHON
find_missing() {
  # shellcheck disable=SC2086  # one word per module
  run_python "$1" -c '
import sys
from importlib.util import find_spec
print(*[name for name in sys.argv[1:] if find_spec(name) is None])' $modules
}

missing=$(find_missing "$python") || fail 6 "$python does not start" "name another: ./install.sh --python PATH"
if [ -n "$missing" ] && [ -z "$pip" ]; then
  packages=$(echo " $missing" | sed 's/ onnxruntime//; s/ cv2/ opencv/; s/ / python3-/g')
  hint="run ./install.sh --pip to install them into a virtual environment in the bundle"
  [ -z "$packages" ] || hint="run sudo apt install$packages (for Debian's python3), or $hint"
  fail 6 "$python lacks the Python modules $missing" "$hint"
fi

library=lib/$abi/libpaddle_light_api_shared.so
sources=runtime/edge_ocr_lite/engines/lite_shim
if [ -n "$build" ]; then
  [ -f include/paddle_api.h ] ||
    fail 5 "the bundle has neither the shim of $library nor include/ to build it from" "export the bundle again"
  command -v g++ >/dev/null || fail 6 "g++ is missing, which builds the shim of $library" "run sudo apt install g++"
fi

# --- compare the installation that is needed with the one that is there

venv=
[ "$python" != "$here/.installed/venv/bin/python" ] || venv=kept
[ -z "$missing" ] || venv=new
interpreter=venv
if [ -z "$venv" ]; then
  # The real path, not the name: with pyenv, the name means another Python in another folder.
  interpreter=$(run_python "$python" -c 'import sys; print(sys.executable)')
fi
state="python: $interpreter"
[ -z "$build" ] || state="$state
$(sha256sum "$library" "$sources"/* include/*.h)" || fail 5 "cannot read $library" "copy or unpack the bundle again"

give_up() {
  fail 2 "cannot write to $here" "run this as its owner, and check the free space on the disk"
}

make_venv() {
  say "making a virtual environment for: $missing"
  hint="run sudo apt install python3-pip python3-venv"
  run_python "$python" -m venv --system-site-packages --without-pip "$here/$new/venv" || fail 6 "$python has no working venv" "$hint"
  python=$here/$new/venv/bin/python
  # Debian's pip also serves the environment.
  run_python "$python" -c 'import pip' 2>/dev/null || run_python "$python" -m ensurepip >&2 ||
    fail 6 "$python has no pip" "$hint"
  # The new environment sees the system's modules, but not those of another environment.
  packages=$(find_missing "$python" | sed 's/cv2/opencv-python-headless/')
  # --no-deps: the list is complete, and onnxruntime requires more than it imports.
  # --only-binary: compiling OpenCV takes a board hours.
  # shellcheck disable=SC2086  # one word per package
  run_python "$python" -m pip install --disable-pip-version-check --no-deps --only-binary :all: $packages >&2 ||
    fail 6 "pip could not install $packages" "check the network and the free space on the disk; pip's messages are above"
}

build_shim() {
  say "building the shim of $library"
  mkdir -p "$new/lib/$abi" || give_up
  # shellcheck disable=SC2016  # the loader expands $ORIGIN
  g++ -std=c++11 -O2 -fPIC -shared -s -fvisibility=hidden -Wfatal-errors -I "$sources" -I include \
    "$sources/edge_ocr_lite.cpp" -o "$new/lib/$abi/libedge_ocr_lite.so" \
    -L "lib/$abi" -l:libpaddle_light_api_shared.so -Wl,-rpath,'$ORIGIN/../../../lib/'"$abi" ||
    fail 6 "the shim does not build" "see the compiler's messages above; a bundle from export --with-onnx needs no shim"
}

new=.installed.new
made=
if [ "$venv" = new ] || [ "$(cat .installed/state 2>/dev/null)" != "$state" ]; then
  mkdir "$new" || give_up
  case $venv in
    new) make_venv ;;
    kept) cp -RPp .installed/venv "$new/" || give_up ;;
    *) printf '%s\n' "$interpreter" >"$new/python" || give_up ;;
  esac
  [ -z "$build" ] || build_shim
  printf '%s\n' "$state" >"$new/state" || give_up
  if [ -d .installed ]; then mv .installed .installed.old; else mkdir .installed.old; fi || give_up
  mv "$new" .installed || give_up
  made=yes
fi

if [ -n "$selftest" ]; then
  sh edge-ocr-lite selftest --engine "${engine:-auto}"
  status=$?
  if [ $status -eq 9 ]; then
    # The exporter has already warned about it; the board is fine.
    say "WARNING: the result was not compared, because the bundle has no golden picture"
  elif [ $status -ne 0 ]; then
    say "Error: the self-test failed with exit code $status${made:+; the installation was undone}"
    exit $status
  fi
fi
# From here on, the new installation stays.
[ -z "$made" ] || mv .installed.old "$new"
# Some ways of copying lose the executable bit.
if [ -x edge-ocr-lite ]; then shell=''; else shell='sh '; fi
say "ready: $shell$here/edge-ocr-lite photo.jpg"
