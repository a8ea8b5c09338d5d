"""VKD by a plain SVI loop on the public API: for those who want to change the loop itself.

python scripts/train_svi.py --epochs 5 --output runs/svi_bundle
"""

import argparse
from pathlib import Path

import numpy as np
import pyro
import torch
from pyro.infer import SVI
from pyro.optim import ClippedAdam
from trainings import errors_in_one_line

from vkd_pyro import VKD, StudyData, TraceVKD_ELBO, evaluate
from vkd_pyro.artifacts.bundle import save_bundle
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.distributions import BalancedKL
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.schedules import Cyclical
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.training.requirements import observe_training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_studies", type=int, default=2000, help="size of the synthetic corpus")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="where to write the image-only bundle")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    pyro.clear_param_store()

    data = StudyData(Selection(SyntheticCorpus(arguments.num_studies), image_size=64), loading=Loading(batch_size=64))
    vkd = VKD(data.findings, ConvEncoder(), WordEncoder(), latent_dim=64)
    observe_training(vkd, data)  # what a part learns before the first step, such as a vocabulary
    loader = data.train_loader(vkd.report_encoder, arguments.seed, observation=vkd.report_likelihood)

    objective = TraceVKD_ELBO(divergence=BalancedKL(prior_weight=0.005, posterior_weight=0.0005))
    schedule = Cyclical(cycles=4)
    schedule.validate(len(loader))
    svi = SVI(vkd.model, vkd.guide, ClippedAdam({"lr": 1e-3, "clip_norm": 1.0}), objective)

    step = 0
    for epoch in range(arguments.epochs):
        loader.batch_sampler.set_epoch(epoch)
        losses = []
        for batch in loader:
            step += 1
            losses.append(svi.step(batch, kl_weight=schedule(step, len(loader))))
        print(f"epoch {epoch}: loss {np.mean(losses):.3f}")

    print(evaluate(vkd, data, split="test"))
    if arguments.output:
        save_bundle(
            arguments.output, vkd.image_model, vkd.findings, data.transform, card="Trained by scripts/train_svi.py.\n"
        )
        print(f"written: {arguments.output}")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
