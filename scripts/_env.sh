# Sourced by the other scripts, from the repository's root. Defines $venv_python, the interpreter of .venv, and
# install_into_venv EXTRAS, and puts .venv/bin first on the PATH. PYTHON=/path/to/python chooses the interpreter for
# a new .venv. With lowest=1 it is .venv-lowest, with the oldest dependencies that pyproject.toml allows.
# Runs in bash 3.2, which macOS ships.

export PIP_DISABLE_PIP_VERSION_CHECK=1

venv=.venv${lowest:+-lowest}
venv_python=$PWD/$venv/bin/python

_is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

_make_venv() {
    local base=${PYTHON:-python3}
    if ! command -v "$base" >/dev/null; then
        echo "No $base here. Name a Python 3.11 or newer: PYTHON=/path/to/python $0" >&2
        exit 1
    fi
    if ! _is_new_enough "$base"; then
        echo "$base is $("$base" --version 2>&1), and streamtrain needs Python 3.11 or newer:" \
            "PYTHON=/path/to/python $0" >&2
        exit 1
    fi
    "$base" -m venv "$venv"
}

if ! [ -x "$venv_python" ]; then
    _make_venv
elif ! _is_new_enough "$venv_python"; then
    echo "$venv is not Python 3.11 or newer. Remove it, then: PYTHON=/path/to/python $0" >&2
    exit 1
fi

PATH=$PWD/$venv/bin:$PATH

# Finds a compiler for the loops in C: $CC, the machine's, or that of the package ziglang. Without one the package
# installs too and runs its loops in Python.
_find_compiler() {
    local name
    for name in "${CC:-}" cc gcc clang; do
        # shellcheck disable=SC2086  # $CC may have arguments
        if [ -n "$name" ] && command -v ${name%% *} >/dev/null; then
            return
        fi
    done
    echo "No C compiler here; installing the package ziglang, which brings one." >&2
    if "$venv_python" -m pip install -q ziglang; then
        export CC="$venv_python -m ziglang cc"
    fi
}

# Installs the package, editable, with EXTRAS ("demo,dev") unless that was done before with the same
# pyproject.toml, constraints.txt, C sources and folder.
install_into_venv() {
    local stamp=$venv/installed-$1 want oldest=
    want=$("$venv_python" - <<'PY'
import hashlib, pathlib
loops = sorted(path for path in pathlib.Path("streamtrain/native").iterdir() if path.suffix in (".c", ".h", ".inc"))
parts = [pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "constraints.txt", "setup.py", *loops)]
print(hashlib.sha256(b"\0".join([*parts, str(pathlib.Path.cwd()).encode()])).hexdigest())
PY
    )
    if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
        echo "Installing streamtrain[$1] into $venv; the first time takes minutes." >&2
        rm -f "$stamp"
        _find_compiler
        if [ -n "${lowest:-}" ]; then
            oldest=$("$venv_python" - <<'PY'
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
found = (re.match(r"(\S+?)>=([\d.]+)", line) for line in project["dependencies"] if not line.startswith("torch"))
print(*("{}=={}".format(*match.groups()) for match in found))  # torch: constraints.txt has it
PY
            )
        fi
        # shellcheck disable=SC2086  # $oldest is a list of words
        "$venv_python" -m pip install -q -c constraints.txt -e ".[$1]" $oldest
        echo "$want" >"$stamp"
    fi
}
