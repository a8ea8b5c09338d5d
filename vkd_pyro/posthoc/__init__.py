"""What the validation split says of a trained model: fitted once it is trained, applied whenever it predicts.

known          probabilities and known labels, checked before anything is fitted to them
recalibration  monotone maps from probabilities to honest ones
thresholds     operating points: yes, no, refer
conformal      sets of answers that hold the right one as often as stated
usual          how probabilities usually are, for later ones to be compared with
ood            how far an image is from the training images
calibration    `Calibration`, all of them together, as a bundle carries them
"""

from vkd_pyro.posthoc.calibration import Calibration, Fit, Judged
from vkd_pyro.posthoc.conformal import Conformal, Coverage
from vkd_pyro.posthoc.ood import OODDetector, OODScores, Signals
from vkd_pyro.posthoc.recalibration import Identity, Isotonic, Platt, Recalibration, Temperature
from vkd_pyro.posthoc.thresholds import ByCost, BySensitivity, BySpecificity, OperatingPoint, OperatingPoints, Rule
