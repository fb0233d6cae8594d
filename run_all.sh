#!/usr/bin/env bash
# One command from a fresh clone to the executed study. What it does to whom: ./run_all.sh --help
set -euo pipefail
here=$(CDPATH="" cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"

usage() {
    cat <<'USAGE'
usage: ./run_all.sh [smoke|quick|full|paper|quick-all-methods] [--only 02,04] [--refresh]   install, fetch the data, run the notebooks
       ./run_all.sh test [pytest arguments]                               install, then the tests
       ./run_all.sh lab [JupyterLab arguments]                            install, then JupyterLab on the notebooks
       ./run_all.sh install                                               install only

profile       default: full where a CUDA device is there, else quick
--only 02,04  only these notebooks, by number
--refresh     run (and compute) again what has not changed
--no-venv     use the Python at hand (Colab, a cluster, no network): nothing is installed, what is missing is named
--dry-run     say what would be done

Everything is installed into .venv, once; a second call installs and runs only what has changed.
A run ends by writing results/<profile>/site/index.html: scorecard, lessons and sliders as pages that need no kernel.
PYTHON=/path/to/python3.12 ./run_all.sh   chooses the Python (3.11, 3.12 or 3.13).
USAGE
}

fail() { printf 'run_all.sh: %s\n' "$*" >&2; exit 1; }
misused() { printf 'run_all.sh: %s\nTry ./run_all.sh --help\n' "$*" >&2; exit 2; }

# A pyenv shim exists and yet fails, so a candidate is asked, not looked up.
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

find_python() {
    local candidates=(python3 python3.13 python3.12 python3.11 python) version found=""
    if [ -n "${PYTHON-}" ]; then candidates=("$PYTHON"); fi
    for python in "${candidates[@]}"; do
        version=$(version_of "$python") || continue
        case $version in 3.11 | 3.12 | 3.13) return ;; esac
        found+=" $python ($version)"
    done
    fail "needs Python 3.11, 3.12 or 3.13; found:${found:- none that runs}. Install one, or name it:" \
        "PYTHON=/path/to/python3.12 ./run_all.sh"
}

venv_is_usable() {
    local version
    version=$(version_of .venv/bin/python) || return 1
    if [ -n "${PYTHON-}" ] && [ "$version" != "$(version_of "$PYTHON")" ]; then return 1; fi
    .venv/bin/python -c 'import pip' 2>/dev/null
}

# What an installation depends on; the folder too, since an editable install points at it.
installation_hash() {
    .venv/bin/python -c 'import hashlib, os, sys
digest = hashlib.sha256(f"{sys.version_info[:2]} {os.getcwd()}".encode())
for name in ("requirements.txt", "pyproject.toml"):
    digest.update(open(name, "rb").read())
print(digest.hexdigest())'
}

prepare_venv() {
    local stamp=.venv/robustlib-installed wanted
    if ! venv_is_usable; then
        find_python
        echo "Creating .venv with $python (Python $(version_of "$python"))"
        "$python" -m venv --clear .venv || fail "$python cannot create .venv; where Debian's or Ubuntu's python3-venv" \
            "is missing, install it, or name another Python: PYTHON=/path/to/python3.12 ./run_all.sh"
    fi
    python=$here/.venv/bin/python
    wanted=$(installation_hash)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
    echo "Installing requirements.txt into .venv (once; a few minutes)"
    if ! "$python" -m pip install --disable-pip-version-check -r requirements.txt ||
        ! "$python" -m pip install --disable-pip-version-check --no-deps -e .; then
        fail "pip could not install the requirements (its message is above); the next call tries again." \
            "Without a package index, use a Python that has the packages: ./run_all.sh --no-venv"
    fi
    # Last, so that an installation that was cut off is done again.
    echo "$wanted" >"$stamp.partial"
    mv "$stamp.partial" "$stamp"
}

use_python_at_hand() {
    python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail "--no-venv needs Python 3.11 or newer as $python; found: $(version_of "$python" || echo none that runs)." \
            "Name another: PYTHON=/path/to/python3.12 ./run_all.sh --no-venv"
    export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
    "$python" -m robustlib env --check "$1" || exit 1
}

command=run venv=yes dry_run=no
arguments=()
for argument in "$@"; do
    case $argument in
        --no-venv) venv=no ;;
        --dry-run) dry_run=yes ;;
        test | lab | install)
            if [ "$command" = run ] && [ ${#arguments[@]} -eq 0 ]; then command=$argument; else arguments+=("$argument"); fi
            ;;
        -h | --help)
            if [ "$command" = run ]; then usage && exit 0; fi
            arguments+=("$argument")
            ;;
        *) arguments+=("$argument") ;;
    esac
done
set -- ${arguments[@]+"${arguments[@]}"} # bash before 4.4 calls an empty array unbound

# Checked before anything is installed: a slip of the pen must not cost minutes.
if [ "$command" = run ]; then
    profile=""
    while [ $# -gt 0 ]; do
        case $1 in
            smoke | quick | full | paper | quick-all-methods)
                [ -z "$profile" ] || misused "two profiles: $profile and $1"
                profile=$1
                ;;
            --only) [ $# -gt 1 ] || misused "--only needs notebook numbers, as in --only 02,04" && shift ;;
            --only=* | --refresh) ;;
            -*) misused "unknown option $1" ;;
            *) misused "unknown profile '$1'; there are smoke, quick, full, paper and quick-all-methods" ;;
        esac
        shift
    done
    set -- ${arguments[@]+"${arguments[@]}"}
    if [ $dry_run = yes ]; then set -- "$@" --dry-run; fi
fi

if [ $venv = no ]; then use_python_at_hand "$command"; else prepare_venv; fi

# With its default, threads of PyTorch spin while they wait: where anything else uses a core, PGD took 12 s instead of 1 s.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}

case $command in
    install) echo "Everything is there for $("$python" --version)" ;;
    run) exec "$python" -m robustlib run "$@" ;;
    lab)
        if [ $dry_run = yes ]; then echo "would start JupyterLab: $*" && exit 0; fi
        exec "$python" -m robustlib lab "$@"
        ;;
    test)
        if [ $dry_run = yes ]; then echo "would run the tests: $*" && exit 0; fi
        "$python" -m robustlib data fetch fashion_mnist ||
            echo "run_all.sh: fashion_mnist could not be fetched; the tests that need it are skipped" >&2
        exec "$python" -m pytest "$@"
        ;;
esac
