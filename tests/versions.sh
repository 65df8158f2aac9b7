#!/bin/sh
# Runs the Python tests on every other interpreter that is found, from 3.10 on, each in an environment of its
# own, on all cores. One that is not found is said aloud, not failed. Two of them also watch more: 3.12 in Python's
# development mode, 3.13 with the event loops' debug mode.
set -u

# The interpreter of a version: on the path, or among pyenv's.
interpreter() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/"python$1"; do
        if "$candidate" -c '' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
}

# What a version is run with.
options() {
    case "$1" in
    3.12) echo "-X dev" ;;
    esac
}
debug() {
    case "$1" in
    3.13) echo 1 ;;
    esac
}

main=$("${PYTHON:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
failed=""
for version in 3.10 3.11 3.12 3.13 3.14 3.14t; do
    [ "$version" = "$main" ] && continue
    python=$(interpreter "$version")
    if [ -z "$python" ]; then
        echo "turnout: Python $version is not found; skipped"
        continue
    fi
    environment=".venv-$version"
    echo "turnout: Python $version"
    "$python" -m venv "$environment" &&
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip &&
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --group dev &&
        VIRTUAL_ENV="$PWD/$environment" "$environment/bin/maturin" develop --release --quiet >/dev/null &&
        PYTHONASYNCIODEBUG=$(debug "$version") "$environment/bin/python" $(options "$version") -m pytest --quiet --numprocesses auto || failed="$failed $version"
done
[ -z "$failed" ] || { echo "turnout: the tests failed on:$failed"; exit 1; }
