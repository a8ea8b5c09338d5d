#!/usr/bin/env bash
# Runs the checks that are too long for every change.
exec bash "$(dirname "${BASH_SOURCE[0]}")/test.sh" -m slow "$@"
