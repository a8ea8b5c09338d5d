"""The synthetic corpus, and the real layouts that it can be written in."""

from vkd_pyro.synthetic.corpus import SyntheticCorpus as SyntheticCorpus
