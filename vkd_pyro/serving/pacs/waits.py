"""Growing waits between attempts."""

import random

from vkd_pyro.serving.pacs.settings import Waiting


def wait_after(attempts: int, settings: Waiting) -> float:
    """Seconds to wait after so many attempts that failed: doubled each time up to the longest, up to a half shorter.

    Chance keeps several nodes from asking an archive that comes back all at once.
    """
    doubled = settings.first_seconds * 2.0 ** min(attempts, 60)
    return min(doubled, settings.longest_seconds) * random.uniform(0.5, 1.0)
