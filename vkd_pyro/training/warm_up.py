"""The report branch alone, before anything learns from it: reports and labels, no images."""

from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from vkd_pyro.data.batch import Batch, Example, collate
from vkd_pyro.data.loading.dataset import StudyDataset, derive_seed
from vkd_pyro.distributions import seeded
from vkd_pyro.methods.base import Method
from vkd_pyro.utils.errors import UserError

BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 32, 3e-3, 0.01


def warm_up(method: Method, dataset: StudyDataset, steps: int, seed: int) -> None:
    """Trains what classifies reports on the labelled ones, so that it can teach from the first step on.

    With few labels the branch would else learn beside the image what it should teach it. AdamW, one cycle up to 3e-3,
    batches of 32; the result is a function of the seed.

    Args:
        method: whose guide says its `report_loss`.
        dataset: of training.
        steps: of the optimiser; 0 does nothing.
        seed: of order and noise.

    Raises:
        UserError: nothing in a method that reads reports classifies them.
    """
    if not steps or not method.reads_reports:
        return
    guide: Any = method.guide
    known = ~np.isnan(dataset.targets).all(1) & np.array(dataset.has_report)
    rows = np.flatnonzero(known)
    if dataset.reports is None or not hasattr(guide, "report_loss"):
        raise UserError(
            f"training.report_warm_up: nothing in {type(method).__name__} classifies reports alone; set it to 0"
        )
    if not len(rows):
        raise UserError("training.report_warm_up: no training study has a report and a known label; set it to 0")
    device = next(guide.parameters()).device
    auxiliary = getattr(guide, "auxiliary", None)  # of the model's, where they are tied
    parameters = {id(p): p for part in (guide, auxiliary) if part is not None for p in part.parameters()}
    trained = [parameter for parameter in parameters.values() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    order = np.random.default_rng(derive_seed(seed, "warm-up"))
    method.train()
    with seeded(derive_seed(seed, "warm-up noise"), device):
        for _ in tqdm(range(steps), "warm-up of the report branch", delay=1, leave=False, disable=None):
            loss = guide.report_loss(_batch(dataset, order.choice(rows, BATCH_SIZE)).to(device))
            if loss is None:
                raise UserError(
                    "training.report_warm_up: a teacher that sees the image cannot be warmed up; set it to 0"
                )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 5.0)
            optimizer.step()
            schedule.step()
    for parameter in trained:
        parameter.grad = None


def _batch(dataset: StudyDataset, studies: Any) -> Batch:
    """Reports and labels of studies; the images are empty."""
    reports: Any = dataset.reports
    return collate(
        [
            Example(
                image=torch.zeros(0),
                report=reports[number],
                has_report=True,
                labels=torch.from_numpy(dataset.targets[number]),
                study_id=dataset.studies[number].study_id,
            )
            for number in studies
        ]
    )
