# Sourced by the other scripts: `isthmus_setup ENVIRONMENT EXTRAS` makes a virtual environment with the package in it.
#
# Does nothing when what decides the environment (pyproject.toml, setup.py, the C coder) is unchanged. PYTHON names the
# interpreter to use (default: python3).

isthmus_setup() {
    local environment=$1 extras=$2 stamp wanted log
    stamp="$environment/.isthmus-$extras"
    wanted=$(cat pyproject.toml setup.py scripts/constraints.txt runtime/codecs/_rans.c | cksum)
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return 0
    fi
    if [ ! -x "$environment/bin/python" ]; then
        "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
            echo "error: ${PYTHON:-python3} is older than Python 3.10; name another with PYTHON=..." >&2
            return 1
        }
        "${PYTHON:-python3}" -m venv "$environment" || {
            echo "error: cannot make $environment; on Debian: apt install python3-venv" >&2
            return 1
        }
    fi
    echo "installing isthmus[$extras] into $environment (once; the downloads take a while)" >&2
    log="$environment/install.log"
    if ! "$environment/bin/python" -m pip install --disable-pip-version-check --constraint scripts/constraints.txt \
        --editable ".[$extras]" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "error: the install failed; the whole log is $log" >&2
        return 1
    fi
    "$environment/bin/python" - >&2 <<'PYTHON' || return 1
from isthmus.runtime.codecs import coder_backend

if coder_backend() == "c":
    print("entropy coder: C")
else:
    print("entropy coder: numpy (no C compiler was found; the same bytes, more slowly)")
PYTHON
    echo "$wanted" >"$stamp"
}
