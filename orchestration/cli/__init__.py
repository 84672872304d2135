"""The command `scoring`. Only words and screens: what a command does is in `orchestration.lib`.

Modules are imported when their command runs, because Dagster, dbt and scikit-learn take seconds to import.
"""

from orchestration.cli.main import main

__all__ = ["main"]
