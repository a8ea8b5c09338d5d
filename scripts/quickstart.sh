#!/usr/bin/env bash
# Sets up the environment, trains `no_report` and `vkd` on the embedded synthetic corpus, and prints the table that
# compares them. Run again, it shows the table of the runs that are there. Arguments go to every `vkd train`.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" ""
python scripts/experiment.py synthetic+methods/no_report synthetic --seeds 1 --runs runs/quickstart "$@"
