"""How many examples hypothesis makes, and how: the same ones on every run, in whatever order modules
are imported, without a database of failures, and however slow the machine is.

Importing this module loads that as the profile of all that say nothing else; others derive theirs
from EXAMPLES.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

EXAMPLES = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("authproxy", EXAMPLES)
settings.load_profile("authproxy")
