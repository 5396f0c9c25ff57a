"""The one error that a user can cause."""


class UserError(Exception):
    """Bad input, said in one sentence: what was given, what was expected, how to mend it.

    The command line prints the sentence and exits with status 2.
    """
