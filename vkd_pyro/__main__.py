"""`python -m vkd_pyro` is `vkd`."""

import sys

from vkd_pyro.cli import main

if __name__ == "__main__":  # an import of it runs nothing
    sys.exit(main())
