"""Every error that genrail raises on purpose.

::

    GenrailError                 catch this one to catch them all
    ├── UserError                the caller can mend it; commands exit with code 2
    │   ├── CatalogError         a catalogue or interactions file: missing column, null or duplicate ids, nothing in it
    │   ├── FilterError          a filter expression: syntax, unknown field, wrong type
    │   ├── QueryError           a request: empty, unknown items only, k out of range
    │   ├── SettingsError        a setting outside its range, or one that does not exist
    │   ├── ShapeError           two arrays that should agree and do not
    │   ├── IdentifierError      identifiers that cannot be made or assigned
    │   ├── ApiError             a language model behind an API: no answer, or not the one that was asked for
    │   └── MissingPackageError  an optional package; the message holds the line that installs it
    ├── StorageError             a saved folder
    │   ├── DamagedError         a file is missing, truncated or altered
    │   ├── FormatError          a folder that is not ours, or of a newer format
    │   ├── FingerprintError     parts that do not belong together (tokenizer, codebooks, encoder)
    │   ├── DiskError            the disk is full, may not be written to, or failed
    │   └── LockedError          another process is writing
    ├── StateError               a beam state that this index did not produce
    ├── LogitsError              a model returned logits that cannot be ranked (+inf, wrong width)
    └── ClosedWorldError         the last gate caught an item that is not allowed: a bug of ours, please report

A message is one sentence: what, where, and the way out.
"""

__all__ = [
    "ApiError",
    "CatalogError",
    "ClosedWorldError",
    "DamagedError",
    "DiskError",
    "FilterError",
    "FingerprintError",
    "FormatError",
    "GenrailError",
    "IdentifierError",
    "LockedError",
    "LogitsError",
    "MissingPackageError",
    "QueryError",
    "SettingsError",
    "ShapeError",
    "StateError",
    "StorageError",
    "UserError",
]


class GenrailError(Exception):
    """Catch every error that genrail raises on purpose."""


class UserError(GenrailError):
    """Say that the caller can mend this; commands exit with code 2."""


class CatalogError(UserError):
    """Refuse a catalogue or interactions file, naming file, row and column."""


class FilterError(UserError):
    """Refuse a filter expression, naming the place and the known fields."""


class QueryError(UserError):
    """Refuse a request that cannot be answered, saying what to give."""


class SettingsError(UserError):
    """Refuse a setting, naming its range."""


class ShapeError(UserError):
    """Refuse arrays that do not fit together, showing both sizes."""


class IdentifierError(UserError):
    """Refuse to make or assign identifiers, naming the item."""


class ApiError(UserError):
    """Say that an API did not answer as it should, and what to check."""


class MissingPackageError(UserError, ImportError):
    """Name the optional package that is missing and the line that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f'{purpose} needs the package "{package}"; install it with: pip install "genrail[{extra}]"')
        self.package = package
        self.extra = extra


class StorageError(GenrailError):
    """Say what is wrong with a saved folder."""


class DamagedError(StorageError):
    """Name the file that is missing, truncated or altered."""


class FormatError(StorageError):
    """Refuse a folder that is not ours, or of a format this version does not read."""


class FingerprintError(StorageError):
    """Refuse parts that do not belong together: tokenizer, codebooks, encoder."""


class DiskError(StorageError):
    """Say that the disk is full, may not be written to, or failed; what was published before is untouched."""


class LockedError(StorageError):
    """Say who else is writing to this folder."""


class StateError(GenrailError):
    """Refuse a beam state that this index did not produce."""


class LogitsError(GenrailError):
    """Refuse logits that cannot be ranked, naming beam and token."""


class ClosedWorldError(GenrailError):
    """Report that the last gate caught an item that is not allowed; this is always a bug of genrail."""
