#!/usr/bin/env bash
# Sets up the environment, then checks style and types and runs the tests. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "[test]"
ruff check .
ruff format --check .
mypy
python -m pytest "$@"
