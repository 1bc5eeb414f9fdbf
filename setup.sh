#!/bin/sh
# Creates or re-uses the virtual environment that every make target runs in.
#   VENV    where it lives (default .venv)
#   PYTHON  a Python 3.11 (default python3.11)
set -eu
VENV=${VENV:-.venv}
PYTHON=${PYTHON:-python3.11}
root=$(pwd)

fail() { printf '\nset-up failed: %s\n' "$1" >&2; exit 1; }

# pip has several lines for each of some 150 packages. These remain: what takes long and what went wrong. The exit
# status is pip's, whose last line tells that it went well: a POSIX pipeline keeps only the status of its last part.
shorten() {
  went_well=1
  while IFS= read -r line; do
    case $line in
      *Downloading*' MB)' | *Downloading*' GB)') printf '  %s\n' "${line#"${line%%[! ]*}"}" ;;
      'Installing collected packages:'*) echo '  Installing ...' ;;
      'set-up: pip went well') went_well=0 ;;
      *ERROR* | *'error:'* | *'WARNING: Retrying'*) printf '  %s\n' "$line" ;;
    esac
  done
  return "$went_well"
}

install() {
  { PYTHONUNBUFFERED=1 "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off "$@" 2>&1 \
      && echo 'set-up: pip went well'; } | tee "$VENV/pip.log" | shorten
}

# The stamp names the exact pins and the folder that the environment points at: equal stamp, nothing to do.
pins=$(cat pyproject.toml constraints.txt setup.sh | cksum | tr ' ' '-')
stamp="$VENV/.emend-setup"
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$pins $root" ] && exit 0

if [ ! -f "$stamp" ] || [ "$(cut -d' ' -f1 "$stamp")" != "$pins" ]; then
  command -v "$PYTHON" >/dev/null 2>&1 || fail "'$PYTHON' was not found. Install Python 3.11 (Debian: apt-get install python3.11 python3.11-venv) or name one with make PYTHON=/path/to/python3.11"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
    || fail "'$PYTHON' is $("$PYTHON" -V 2>&1), but Python 3.11 is needed. Name one with make PYTHON=..."
  "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null \
    || fail "'$PYTHON' has no venv module. Debian: apt-get install python3.11-venv"
  if [ ! -x "$VENV/bin/python" ]; then
    echo "Creating $VENV ..."
    "$PYTHON" -m venv "$VENV" || fail "could not create '$VENV'. Is the folder writable and the disk not full?"
  fi
  echo "Installing pinned packages into $VENV (PyTorch is large: a few minutes and about 7 GB the first time) ..."
  install -c constraints.txt -e '.[all]' \
    || fail "pip could not install the packages; all that it said is in $VENV/pip.log. Check the network and free disk space (7 GB), then run the same command again; it continues where it stopped."
  echo "Set up $VENV."
else
  echo "Pointing $VENV at $root ..."
  install --no-deps -e . || fail "pip could not point '$VENV' at $root; all that it said is in $VENV/pip.log."
fi
printf '%s %s' "$pins" "$root" > "$stamp"
