#!/usr/bin/env bash
# Sets up the environment, then builds the manual, its tutorials run: docs/_build/html/index.html. A warning is an error.
# Arguments go to sphinx-build.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "[docs]"
# Two pages at a time, and each tutorial in one thread: they are small, and gain nothing from more.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
python -m sphinx --jobs 2 --fail-on-warning --keep-going --fresh-env --builder html "$@" docs docs/_build/html
echo "written: docs/_build/html/index.html"
