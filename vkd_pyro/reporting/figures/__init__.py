"""Figures: plain functions of arrays -> matplotlib `Figure`. What is undefined is said in words, never drawn as 0.

style        colours, fonts and layout that all share
curves       ROC and precision-recall curves
checks       replicated labels beside those observed
calibration  the reliability diagram
selective    uncertainty of right and wrong answers, referral, risk and coverage
latent       maps of z
training     training curves
search       a search for settings: trials, and values by option
decisions    decision curves
forests      differences with their intervals
drift        months of predictions beside what was usual
pointing     where heat maps point
posterior    ranks and coverage of a posterior that is checked by simulation
examples     example studies
flow         the flow of patients, studies and images
files        figures as PNG and SVG
"""

from vkd_pyro.reporting.figures.calibration import Bins, reliability
from vkd_pyro.reporting.figures.checks import Row as CheckRow
from vkd_pyro.reporting.figures.checks import predictive_checks
from vkd_pyro.reporting.figures.curves import precision_recall, roc
from vkd_pyro.reporting.figures.decisions import decision_curves
from vkd_pyro.reporting.figures.drift import drift
from vkd_pyro.reporting.figures.examples import cases
from vkd_pyro.reporting.figures.files import save, svg
from vkd_pyro.reporting.figures.flow import flow
from vkd_pyro.reporting.figures.forests import forest
from vkd_pyro.reporting.figures.latent import latent_maps
from vkd_pyro.reporting.figures.pointing import pointing
from vkd_pyro.reporting.figures.posterior import ecdf_differences, expected_coverage
from vkd_pyro.reporting.figures.search import search_history
from vkd_pyro.reporting.figures.selective import referral, risk_coverage, uncertainty_histograms
from vkd_pyro.reporting.figures.style import interval_text
from vkd_pyro.reporting.figures.training import training_curves
