"""What a trained method says of a split, beside what was true, and what follows from it.

evaluate       `evaluate` a method, `evaluate_run` a run
evaluation     `Evaluation`, the record
saved          the record on disk
outputs        what model and guide say of each image and report
joint         all findings of a study together
tables         ranking, calibration, decisions and subgroups, with intervals
comparison     paired differences of methods on the same studies
collapse       whether z is used, and what to try where it is not
arviz_export   draws of the posterior predictive, for ArviZ
"""
