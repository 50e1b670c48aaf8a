"""The error of data that can't be used."""


class DataError(ValueError):
    """Data that are missing or not what they should be.

    The message says where, what was wanted, what came and what to do.
    """
