#!/bin/sh
# Makes the environment .venv with the pinned packages: `scripts/environment.sh run` or `... test`.
# Once that is done, a further call ends at once and touches no network. PYTHON=... chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}

case ${1-} in
    run)  files="requirements.txt" ;;
    test) files="requirements.txt requirements-test.txt" ;;
    *)    echo "usage: scripts/environment.sh run|test" >&2; exit 2 ;;
esac

fail() { printf '%s\n' "$@" >&2; exit 1; }

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() { apt-get update -q && apt-get install -q -y --no-install-recommends "$@"; }

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# The newest Python that the packages are tried with; 3.13 comes last because nothing here is tested on it.
find_python() {
    for python in ${PYTHON:-python3.12 python3.11 python3.10 python3.13 python3}; do
        case $(version "$python") in 3.10 | 3.11 | 3.12 | 3.13) return ;; esac
    done
    return 1
}

make_environment() {
    if ! find_python; then
        [ -z "${PYTHON-}" ] || fail "PYTHON=$PYTHON is no Python from 3.10 to 3.13."
        may_install && apt_install python3 python3-venv && find_python ||
            fail "No Python from 3.10 to 3.13 found. Install one: sudo apt-get install python3 python3-venv"
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        package=python$(version "$python")-venv  # Debian keeps this part of Python in a package of its own
        may_install && apt_install "$package" ||
            fail "$python cannot make environments yet. Install what is missing: sudo apt-get install $package"
    fi
    echo "Making $venv with Python $(version "$python")."
    # A Python that has every package already lends them, so that nothing is fetched twice.
    pip_offline "$python" --dry-run && lend=--system-site-packages || lend=
    "$python" -m venv --clear $lend "$venv"
}

pip_install() {
    interpreter=$1; shift
    for file in $files; do set -- "$@" -r "$file"; done
    "$interpreter" -m pip install --disable-pip-version-check -c constraints.txt "$@"
}

# Succeeds when nothing is missing: pip may not ask any index.
pip_offline() { pip_install "$@" --no-index --quiet >/dev/null 2>&1; }

stamp=$venv/installed-$1
wanted=$(cat constraints.txt $files | cksum)
have=$(version "$venv/bin/python" || true)
if [ -z "$have" ] || { [ -n "${PYTHON-}" ] && [ "$have" != "$(version "$PYTHON")" ]; }; then
    make_environment
elif [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit
fi

if ! pip_offline "$venv/bin/python"; then
    echo "Installing the packages into $venv: once, a few minutes, about 6 GB on disk."
    pip_install "$venv/bin/python" ||
        fail "" "The packages could not all be installed; the lines above say why." \
            "With network and disk space, the same command goes on where it stopped."
fi
# What reads music compiles itself at its first use; later the first sound would wait for it.
echo "Compiling what reads music: once, about half a minute."
"$venv/bin/python" -W ignore -m guidance.mood ||
    echo "That did not work; everything else does, and the first sound will take longer." >&2
echo "$wanted" >"$stamp"
