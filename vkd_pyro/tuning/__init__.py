"""Search for settings, on training and validation alone: `vkd tune`.

space    which options are searched, and where
study    trials in a database that several processes share
trial    one training, as a trial
results  table, picture and best config of a study
"""
