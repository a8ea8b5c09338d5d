"""The image-only model at work on files: one X-ray or a hundred thousand.

    for each in predict_files(load_bundle("bundle"), find_images(["xrays", "more/*.dcm"])):
        if isinstance(each, Predicted):
            print(each.image, dict(zip(each.findings, each.answers)))

Files are read ahead and predicted a batch at a time, so memory does not grow with their number.
"""

from vkd_pyro.prediction.files import Predicted as Predicted
from vkd_pyro.prediction.files import predict_files as predict_files
from vkd_pyro.prediction.images import Unread as Unread
from vkd_pyro.prediction.images import find_images as find_images
from vkd_pyro.prediction.studies import studies_of as studies_of
