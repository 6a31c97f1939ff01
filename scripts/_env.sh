# Makes .venv with what "$1" names (demo, or demo,dev) and puts it first on the PATH; sourced by the scripts.
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "streamtrain needs Python 3.11 or newer; name one: PYTHON=python3.11 $0" >&2
  exit 2
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
stamp=$(cat pyproject.toml constraints.txt | cksum)
if [ "$(cat ".venv/stamp-$1" 2>/dev/null)" != "$stamp" ]; then
  echo "Installing into .venv (some minutes the first time) ..."
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$1]"
  echo "$stamp" > ".venv/stamp-$1"
fi
PATH="$PWD/.venv/bin:$PATH"
