"""Metrics: plain functions of (probabilities, labels). What is undefined is NaN.

pairs        which (study, finding) pairs count
ranking      areas under ROC and precision-recall curves, their averages, the curves
calibration  proper scores, calibration errors, reliability
selective    risk and coverage, referral
uncertainty  entropy, and its parts by source
clinical     sensitivity, predictive values, net benefit
drift        whether numbers are spread as they used to be
ranks        ranks among draws, bands of their ECDF, expected coverage
latent       active units of z, what z says of the labels
intervals    bootstrap intervals that resample patients
localization whether maps point at regions
delong       DeLong's intervals and test, of independent patients
clustered    intervals of areas under the ROC curve, patients with several rows
"""

from vkd_pyro.metrics.calibration import (
    CalibrationLine,
    Reliability,
    adaptive_calibration_error,
    brier,
    calibration_slope,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from vkd_pyro.metrics.clinical import (
    DecisionCurve,
    Operating,
    at_prevalence,
    decision_curve,
    operating,
    share_interval,
    wilson,
)
from vkd_pyro.metrics.clustered import ClusteredArea, auroc_interval, clustered_area
from vkd_pyro.metrics.delong import DeLongDifference, delong, delong_difference
from vkd_pyro.metrics.intervals import (
    FEWEST,
    RARE,
    UNDEFINED,
    Interval,
    average_precision_interval,
    bootstrap_interval,
    few_patients,
    interval_of,
    rare_strata,
    resample_counts,
)
from vkd_pyro.metrics.latent import active_units, mutual_information_bound
from vkd_pyro.metrics.localization import (
    THRESHOLDS,
    best_threshold,
    centre_map,
    hit_rate,
    intersection_over_union,
    mean_overlap,
    pointing_game,
)
from vkd_pyro.metrics.ranking import (
    PrecisionRecallCurve,
    RocCurve,
    auroc,
    auroc_per_finding,
    average_precision,
    macro_auroc,
    micro_auroc,
    precision_recall_curve,
    resampled_auroc,
    resampled_average_precision,
    roc_curve,
    undefined_reason,
    weighted_auroc,
)
from vkd_pyro.metrics.ranks import (
    EcdfBand,
    RankShape,
    distance_ranks,
    ecdf,
    ecdf_band,
    rank_shape,
    ranks,
    reference_points,
    uniformity_p_value,
)
from vkd_pyro.metrics.selective import (
    ExcessArea,
    ReferralCurve,
    RiskCoverage,
    accuracy,
    area_under_generalized_risk,
    area_under_risk_coverage,
    excess_area,
    referral_curve,
    risk_coverage,
)
from vkd_pyro.metrics.uncertainty import (
    entropy,
    entropy_of_mean,
    epistemic_uncertainty,
    expected_entropy,
    latent_uncertainty,
    total_uncertainty,
)
