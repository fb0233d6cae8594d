#!/usr/bin/env bash
# usage: ./run_all.sh [smoke|quick|night|full|paper|quick-all-methods] [--only 02,04] [--refresh]   install, fetch the data, run the notebooks
#        ./run_all.sh test [pytest arguments]                               install, then the tests
#        ./run_all.sh lab [--originals] [JupyterLab arguments]              install, then JupyterLab on your own copies of the lessons (in work/)
#        ./run_all.sh install                                               install only
#
# profile       default: full where a CUDA device is there, else quick
# --only 02,04  only these notebooks, by number
# --workers 4   processes at a time; default: as many as cores and memory allow
# --cluster A   address of a Dask scheduler whose workers compute (CLUSTER.md)
# --budget 30m  stop in time, with the most important done first
# --refresh     run (and compute) again what has not changed
# --no-venv     use the Python at hand (Colab, a cluster, no network): nothing is installed, what is missing is named
# --dry-run     say what would be done, and how long that takes here
#
# Everything is installed into .venv, once; a second call installs and runs only what has changed.
# A run ends by writing results/<profile>/site/index.html: scorecard, lessons and sliders as pages that need no kernel.
# PYTHON=/path/to/python3.12 ./run_all.sh   chooses the Python (3.11, 3.12 or 3.13).
set -euo pipefail
cd "$(CDPATH="" cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

fail() { printf 'run_all.sh: %s\n' "$*" >&2; exit 1; }

# A pyenv shim exists and yet fails, so a candidate is asked, not looked up.
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

find_python() {
    local candidates=(python3 python3.13 python3.12 python3.11 python) version tried=""
    if [ $venv = yes ] && .venv/bin/python -c 'import pip' 2>/dev/null; then candidates=(.venv/bin/python "${candidates[@]}"); fi
    if [ -n "${PYTHON-}" ]; then candidates=("$PYTHON"); fi
    for python in "${candidates[@]}"; do
        version=$(version_of "$python") || continue
        case $version in 3.11 | 3.12 | 3.13) return ;; esac
        tried+=" $python ($version)"
    done
    fail "needs Python 3.11, 3.12 or 3.13; found:${tried:- none that runs}. Install one, or name it:" \
        "PYTHON=/path/to/python3.12 ./run_all.sh"
}

install() {
    local stamp=.venv/robustlib-installed wanted
    if [ "$(version_of .venv/bin/python)" != "$(version_of "$python")" ] || ! .venv/bin/python -c 'import pip'; then
        echo "Creating .venv with $python (Python $(version_of "$python"))"
        "$python" -m venv --clear .venv || fail "$python cannot create .venv; where Debian's or Ubuntu's python3-venv" \
            "is missing, install it, or name another Python: PYTHON=/path/to/python3.12 ./run_all.sh"
    fi
    python=.venv/bin/python
    wanted=$(pwd && cat requirements.txt pyproject.toml) # the folder, too: an editable install points at it
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
    echo "Installing requirements.txt into .venv (once; a few minutes)"
    "$python" -m pip install --disable-pip-version-check -r requirements.txt -e . ||
        fail "pip could not install the requirements (its message is above); the next call tries again." \
            "Without a package index, use a Python that has the packages: ./run_all.sh --no-venv"
    echo "$wanted" >"$stamp" # last, so that an installation that was cut off is done again
}

venv=yes arguments=() # bash before 4.4 calls an empty array unbound
for argument in "$@"; do
    if [ "$argument" = --no-venv ]; then venv=no; else arguments+=("$argument"); fi
done
case ${arguments[0]-} in test | lab | install) ;; *) arguments=(run ${arguments[@]+"${arguments[@]}"}) ;; esac
if [[ ${arguments[0]} = run && " ${arguments[*]} " =~ " "(-h|--help)" " ]]; then sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit; fi

export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
find_python
# Before anything is installed: a typing error must not cost minutes.
if [ "${arguments[0]}" = run ]; then "$python" -m robustlib "${arguments[@]}" --check-arguments; fi
if [ $venv = yes ]; then install; else "$python" -m robustlib env --check "${arguments[0]}"; fi
if [ "${arguments[0]}" = install ]; then echo "Everything is there for $("$python" --version)" && exit; fi

# With its default, threads of PyTorch spin while they wait: where anything else uses a core, PGD took 12 s, not 1 s.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}
exec "$python" -m robustlib "${arguments[@]}"
