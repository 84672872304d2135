"""How things are done: plain Python without Dagster's decorators, testable on its own.

What exists and when it runs is in `orchestration.defs`; what a user types is in `orchestration.cli`.
"""
