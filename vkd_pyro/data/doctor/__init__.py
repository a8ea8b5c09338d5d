"""What is wrong with a folder of data, in words: which corpus it is, what is missing, and whether training would work.

The readers are asked, not repeated: what they refuse is a failure here, in their own words.
"""

from vkd_pyro.data.doctor.diagnosis import Check as Check
from vkd_pyro.data.doctor.diagnosis import Diagnosis as Diagnosis
from vkd_pyro.data.doctor.examination import examine as examine
