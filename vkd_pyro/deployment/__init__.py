"""The image-only model at work on files: one X-ray or a hundred thousand.

    for each in predict_files(load_bundle("bundle"), find_images(["xrays", "more/*.dcm"])):
        if isinstance(each, Predicted):
            print(each.image, dict(zip(each.findings, each.answers)))

Files are read ahead and predicted a batch at a time, so memory does not grow with their number.
"""

from vkd_pyro.deployment.images import Unread as Unread
from vkd_pyro.deployment.images import find_images as find_images
from vkd_pyro.deployment.prediction import Predicted as Predicted
from vkd_pyro.deployment.prediction import predict_files as predict_files
