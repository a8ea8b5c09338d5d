"""What an evaluation shows, in tables: an `Evaluation` -> a row a finding, or a group, with intervals.

areas          AUC and average precision of each finding, and their averages
probabilities  calibration, raw and recalibrated
answers        decisions by the operating points, coverage of the conformal sets
clinical       predictive values, also at another prevalence; net benefit
together       all findings of a study at once
checks         replicated label vectors beside those observed
referral       where the wrong answers are, by uncertainty
groups         the same by sex, age and view
failures       where the model was wrong, and how sure it was
localization   whether heat maps point at what radiologists drew
"""

from vkd_pyro.evaluation.tables.answers import conformal, decisions, operating_points
from vkd_pyro.evaluation.tables.areas import averages, ranking
from vkd_pyro.evaluation.tables.checks import VERSIONS, PredictiveChecks, predictive_checks
from vkd_pyro.evaluation.tables.clinical import CURVE, clinical, decision_curves, prevalences
from vkd_pyro.evaluation.tables.failures import failures
from vkd_pyro.evaluation.tables.groups import subgroups
from vkd_pyro.evaluation.tables.localization import Localization, localization
from vkd_pyro.evaluation.tables.probabilities import calibration, calibration_of
from vkd_pyro.evaluation.tables.referral import SHARES, Selective, selective
from vkd_pyro.evaluation.tables.together import DIFFERENCE, JOINT, MARGINAL, at_least_one, together
