"""A trained model as graphs that other engines compute: for a hospital's machine, which has no GPU.

    encoder   images [N, 1, height, width] in [0, 1]   ->  features [N, F]
    head      features [N, F], noise [S, E]            ->  p(y_k = 1 | x_I, z^(s)) [S, N, K], and E z [N, D]

A graph draws nothing: what is random is handed to it, so every engine gives the same samples for a seed. The head of an
image-only model has no noise and no z: features -> p(y_k = 1 | x_I) [N, K].
"""

from vkd_pyro.artifacts.export.loading import load_predictor as load_predictor
from vkd_pyro.artifacts.export.reading import Export as Export
from vkd_pyro.artifacts.export.reading import load_export as load_export
