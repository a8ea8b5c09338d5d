"""`python -m vkd_pyro.cli` is `vkd`."""

import sys

from vkd_pyro.cli import main

sys.exit(main())
