"""What a trained method says of a split, beside what was true, and what follows from it.

evaluate         `evaluate` a method, `evaluate_run` a run
evaluation       `Evaluation`, the record
saved            the record on disk
outputs          what model and guide say of each image and report
joint            all findings of a study together
replicas         label vectors drawn from the posterior predictive
tables           ranking, calibration, decisions and subgroups, with intervals
comparison       paired differences of methods on the same studies
collapse         whether z is used, and what to try where it is not
simulation       whether a posterior is that of its program: ranks and coverage of simulated parameters
simulated_guide  the same of a method's guide
arviz_export     draws of the posterior predictive, for ArviZ
"""
