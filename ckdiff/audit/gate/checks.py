"""Checks of a policy against a report. A new check is one function and one row, in `required.py` or `forbidden.py`.

`require.*` says how much evidence there must be: where it lacks, the outcome is "inconclusive". `fail.*` says what must
not be: where it is found, the outcome is "failed"; where it cannot be told, "inconclusive". An interval passes by its
worse end alone, so that little evidence never passes for good evidence, and fails where the figure itself is outside.
"""

from __future__ import annotations

from ckdiff.audit.gate.forbidden import FORBIDDEN
from ckdiff.audit.gate.required import REQUIRED

CHECKS = {
    f"{table}.{key}": check
    for table, rows in (("require", REQUIRED), ("fail", FORBIDDEN))
    for key, check in rows.items()
}
"""By the policy's key."""
