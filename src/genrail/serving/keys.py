"""API keys: who may ask, who may change, and what each one sees. Only hashes are stored."""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from genrail.errors import DamagedError, SettingsError

__all__ = ["Key", "Keys", "create_key", "read_keys", "revoke_key"]

Role = Literal["read", "admin"]
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
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
        if not NAME.fullmatch(self.name):
            raise SettingsError(f"{self.name!r} is no name of a key; give letters, digits, - and _, 64 at most")
        if self.role not in ("read", "admin"):
            raise SettingsError(f"role is {self.role!r}; give 'read' or 'admin'")
        if self.rate_per_second is not None and not self.rate_per_second > 0:
            raise SettingsError(f"rate_per_second is {self.rate_per_second}; give more than 0, or leave it out")
        if self.role == "admin" and self.where is not None:
            raise SettingsError(
                "an admin key changes the whole engine and cannot be bound to a filter; give role 'read'"
            )
        if self.where is not None:
            from genrail.catalog.filters import parse

            parse(self.where)


class Keys:
    """Find the key that a secret belongs to.

    Args:
        keys: All of them; none means that the server asks for no key.
    """

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._by_name = {key.name: key for key in keys}

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Any:
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
        listed = json.loads(path.read_text(encoding="utf-8"))["keys"]
        return Keys(Key(**one) for one in listed)
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist; make a key with: genrail keys create {path} NAME") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} is no file of keys ({error}); make a new one with genrail keys create") from None


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
    known = list(read_keys(path))
    left = [key for key in known if key.name != name]
    if len(left) == len(known):
        raise SettingsError(f"{path} has no key named {name!r}; it has: {', '.join(key.name for key in known)}")
    _write(path, left)


def _write(path: Path, keys: list[Key]) -> None:
    """Replace the file in one step, readable by its owner only."""
    page = json.dumps({"keys": [asdict(key) for key in keys]}, indent=1) + "\n"
    partial = path.with_name(path.name + ".partial")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(page)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
