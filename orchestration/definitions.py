"""What `dagster` loads: the definitions of the workspace that SCORING_HOME names."""

from __future__ import annotations

import dagster as dg


@dg.definitions
def definitions() -> dg.Definitions:
    from orchestration.defs.build import build_defs
    from orchestration.lib.job_runner import collect_garbage_rarely
    from orchestration.lib.workspace import Workspace

    collect_garbage_rarely()
    # The daemon's runs wait for somebody at the command line; among themselves they queue.
    return build_defs(Workspace.locate(), wait_seconds=900)
