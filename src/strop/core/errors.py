"""The errors strop raises on purpose."""


class StropError(Exception):
    """Base of every error raised on purpose; anything else that escapes is a bug."""


class ConfigError(StropError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class DataError(StropError, ValueError):
    """A file or a row of data that cannot be used; the text lists every fault found."""


class ShapeError(StropError, ValueError):
    """A tensor whose shape, dtype or device does not fit the call."""


class UnsupportedError(StropError, RuntimeError):
    """A correct request that this machine or this build cannot serve."""


class MissingPackageError(StropError, ImportError):
    """A request that needs a package which is not installed; the text has the command."""
