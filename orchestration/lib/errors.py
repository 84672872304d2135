"""Errors that a user can act on. The command line prints their text alone, without a traceback."""


class UserError(Exception):
    """Something a user can mend: the message names the thing, the rule and the value."""
