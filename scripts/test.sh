#!/usr/bin/env bash
# Sets up the environment, then checks style and types and runs the tests. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "[test]"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # a process a core
ruff check .
ruff format --check .
mypy
python -m pytest -n auto --dist loadfile "$@"
