"""API keys: who may ask, who may change, and what each one sees. Only hashes are stored."""

from __future__ import annotations

import hmac
import json
import math
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal

from genrail.errors import DamagedError, SettingsError, UserError
from genrail.storage.files import naming, open_new
from genrail.storage.lock import hold

__all__ = ["Key", "Keys", "create_key", "read_keys", "revoke_key"]

Role = Literal["read", "admin"]
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
DIGEST = re.compile(r"[0-9a-f]{64}")
WAIT_SECONDS = 10.0  # for another process that changes the file
PREFIX = "grk"  # so that scanners for leaked secrets can know one
NOBODY = sha256(b"nobody").hexdigest()


@dataclass(frozen=True)
class Key:
    """Say what the holder of a key may do.

    Args:
        name: Names the key in logs.
        role: `read` asks; `admin` also changes the engine and reads the metrics.
        where: A filter that holds for everything this key sees; None for all items.
        rate_per_second: Requests on average; None for the server's.
        sha256: Of the secret, hexadecimal.
        created: ISO 8601.
    """

    name: str
    role: Role = "read"
    where: str | None = None
    rate_per_second: float | None = None
    sha256: str = field(default=NOBODY, repr=False)
    created: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and NAME.fullmatch(self.name)):
            raise SettingsError(f"{self.name!r} is no name of a key; give letters, digits, - and _, 64 at most")
        if self.role not in ("read", "admin"):
            raise SettingsError(f"role is {self.role!r}; give 'read' or 'admin'")
        rate = self.rate_per_second
        if rate is not None and not (_is_number(rate) and 0 < rate < math.inf):
            raise SettingsError(f"rate_per_second is {rate!r}; give a number above 0, or leave it out")
        if self.role == "admin" and self.where is not None:
            raise SettingsError(
                "an admin key changes the whole engine and cannot be bound to a filter; give role 'read'"
            )
        if not (isinstance(self.sha256, str) and DIGEST.fullmatch(self.sha256)):
            raise SettingsError(f"sha256 of the key {self.name!r} is not 64 hexadecimal digits; make the key anew")
        if not isinstance(self.created, str):
            raise SettingsError(f"created is {self.created!r}; it is a text, or leave it out")
        if self.where is not None:
            from genrail.catalog.filter_grammar import parse

            parse(self.where)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Keys:
    """Find the key that a secret belongs to.

    Args:
        keys: All of them; none means that the server asks for no key.
    """

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._by_name = {key.name: key for key in keys}

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_name.values())

    def find(self, token: str) -> Key | None:
        """Find the key of a token `grk.NAME.SECRET`; the secret is compared in constant time."""
        parts = token.split(".", 2)
        key = self._by_name.get(parts[1]) if len(parts) == 3 and parts[0] == PREFIX else None
        digest = sha256(token.encode("utf-8", "replace")).hexdigest()
        same = hmac.compare_digest(digest, NOBODY if key is None else key.sha256)
        return key if same else None


def read_keys(path: Path) -> Keys:
    """Read a file of keys.

    Raises:
        SettingsError: No such file.
        DamagedError: It is not what `create_key` wrote.
    """
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
        keys = [Key(**one) for one in page["keys"]]
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist; make a key with: genrail keys create {path} NAME") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, UserError) as error:
        raise DamagedError(f"{path} is no file of keys ({error}); make a new one with genrail keys create") from None
    twice = [name for name, count in Counter(key.name for key in keys).items() if count > 1]
    if twice:
        raise DamagedError(f"{path} holds two keys named {twice[0]!r}; remove one of them")
    return Keys(keys)


def create_key(path: Path, key: Key) -> str:
    """Make a secret of 32 random bytes, add the key with its hash to the file, and give the token: it is shown once.

    Raises:
        SettingsError: A key of this name is there.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "keys.json"
    >>> token = create_key(path, Key("shop", where="price < 100"))
    >>> read_keys(path).find(token).where, token in path.read_text(), read_keys(path).find("guess")
    ('price < 100', False, None)
    """
    with _changing(path):
        known = list(read_keys(path)) if path.exists() else []
        if any(other.name == key.name for other in known):
            raise SettingsError(f"{path} has a key named {key.name!r}; revoke it first, or give another name")
        token = f"{PREFIX}.{key.name}.{secrets.token_urlsafe(32)}"
        made = replace(
            key,
            sha256=sha256(token.encode()).hexdigest(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        _write(path, [*known, made])
    return token


def revoke_key(path: Path, name: str) -> None:
    """Remove a key; a running server notices within a second.

    Raises:
        SettingsError: No key has this name.
    """
    with _changing(path):
        known = list(read_keys(path))
        left = [key for key in known if key.name != name]
        if len(left) == len(known):
            raise SettingsError(f"{path} has no key named {name!r}; it has: {', '.join(key.name for key in known)}")
        _write(path, left)


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Let one process at a time read the file and write it anew, so that no key gets lost."""
    if not path.parent.is_dir():
        raise SettingsError(f"{path.parent} is no folder; make it first, or give another file")
    with naming(path, "writing"), hold(path.parent, path.name, WAIT_SECONDS):
        yield


def _write(path: Path, keys: list[Key]) -> None:
    """Replace the file in one step, readable by its owner only."""
    page = json.dumps({"keys": [asdict(key) for key in keys]}, indent=1) + "\n"
    partial = path.with_name(path.name + ".partial")
    try:
        with open_new(partial) as file:
            file.write(page.encode())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
