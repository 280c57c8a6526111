"""Ways to run the jobs of a campaign: `ENGINES["local"](tasks, work, ended, stop, ways)`.

A new engine is a module with such a `run`, and a line here; it is imported when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.campaign.records import Ended, Engine, Stop, Task, Ways, Work


def _inline(tasks: Sequence[Task], work: Work, ended: Ended, stop: Stop, ways: Ways) -> None:
    from ckdiff.campaign.engines.inline import run

    run(tasks, work, ended, stop, ways)


def _local(tasks: Sequence[Task], work: Work, ended: Ended, stop: Stop, ways: Ways) -> None:
    from ckdiff.campaign.engines.local import run

    run(tasks, work, ended, stop, ways)


def _ray(tasks: Sequence[Task], work: Work, ended: Ended, stop: Stop, ways: Ways) -> None:
    from ckdiff.campaign.engines.cluster import run

    run(tasks, work, ended, stop, ways)


ENGINES: dict[str, Engine] = {"inline": _inline, "local": _local, "ray": _ray}
"""By name: this process, processes of this machine, a Ray cluster."""
