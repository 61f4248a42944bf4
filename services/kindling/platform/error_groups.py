"""The error inside the groups that task groups make of it."""


def single_error(error: BaseException) -> BaseException:
    """Return the one error inside groups of one; a group of several is returned as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def first_error(error: BaseException) -> BaseException:
    """Return the first error inside groups, however many there are: where tasks fail alike, one tells it all."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
