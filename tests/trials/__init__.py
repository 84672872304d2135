"""Studies of the fit on simulated and real deals, larger than a test: ``uv run python -m tests.trials.<name> --help``.

Each module simulates what it asks about, prints a table, and gives the unit tests the same functions with few seeds.
"""
