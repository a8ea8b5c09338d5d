"""Speed and memory, as ratios of two things run alternately in one run.

    python scripts/benchmark --root OPENI --language_model FOLDER --json results/benchmark.json
    python scripts/benchmark --only step --json results/benchmark.json
    python scripts/benchmark --device cuda --json results/benchmark.json

The second measures one part alone, the third what a GPU does; other rows of the file are left as they are.

Each row compares two things that do the same work; all that are compared are run in turn, A B C A B C ..., and the
ratio of two median times stands beside the spread of the paired ratios. Absolute figures are of the machine that is
named on top.
"""
