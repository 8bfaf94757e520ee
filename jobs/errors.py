"""Exit codes, and the error that means wrong usage."""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNFINISHED = 3


class UsageError(ValueError):
    """Wrong arguments or inputs; the message is one clear line."""
