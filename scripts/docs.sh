#!/usr/bin/env bash
# Sets up the environment, then builds the manual, its tutorials run: docs/_build/html/index.html. A warning is an error.
# Arguments go to sphinx-build.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "[docs]"
# A notebook kernel is a process beside this one; the tutorials are small, and gain nothing from more threads.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
python -m sphinx --fail-on-warning --keep-going --fresh-env --builder html "$@" docs docs/_build/html
echo "written: docs/_build/html/index.html"
