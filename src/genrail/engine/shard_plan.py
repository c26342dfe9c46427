"""The plan of a sharded build: which shards there are, and the encoder and frozen codebooks that all of them share.

::

    shop.shards/
    ├── plan.json                     shards with checksums, columns, encoder, codebooks, settings; never changed
    ├── codebooks/                    fitted once, on a sample
    └── outputs/
        ├── items-00.parquet.json     status of one shard: what went in, what came out
        └── items-00.parquet-1f0c...  its ids, codes and vectors
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from genrail.catalog import Catalog
from genrail.errors import CatalogError, DamagedError, FingerprintError, FormatError, SettingsError
from genrail.rng import generator
from genrail.storage import DISK
from genrail.storage.files import naming
from genrail.storage.manifest import seal, unseal
from genrail.types import Json, JsonObject

if TYPE_CHECKING:
    from genrail.finding import Progress
    from genrail.identifiers import SemanticIds
    from genrail.models.text_encoder import Encoder

__all__ = ["Shard", "ShardPlan", "ShardSettings", "plan_shards", "read_shard", "write_whole"]

PLAN = "plan.json"
CODEBOOKS = "codebooks"
OUTPUTS = "outputs"
FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """Name one shard: a Parquet file, its rows, its sha256."""

    name: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class ShardSettings:
    """Say how a catalogue in shards becomes identifiers.

    Args:
        levels: Codes of an identifier before the de-duplicating one.
        codes: Size of a codebook; None as in an ordinary build.
        sample: Items that the codebooks are fitted on; 65,536 are 256 for each of 256 codes, as in faiss.
        seed: Of the sample and the codebooks.

    Raises:
        SettingsError: A value outside its range.
    """

    levels: int = 3
    codes: int | None = None
    sample: int = 65_536
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"levels": 1, "codes": 1, "sample": 1, "seed": 0}
        for name, value in asdict(self).items():
            if value is not None and value < least[name]:
                raise SettingsError(f"{name} is {value}; give {least[name]} or more")


@dataclass(frozen=True)
class ShardPlan:
    """Hold what every process needs to work on its shards alike.

    Args:
        folder: Where plan, codebooks and outputs lie.
        catalog: Folder of the Parquet shards.
        shards: In catalogue order: by name.
        columns: Columns of id, title and text.
        encoder: Name, fingerprint, dimensions and token limit of the text encoder.
        codebooks: Fingerprint of the frozen codebooks.
        settings: How the codebooks were fitted.
    """

    folder: Path
    catalog: Path
    shards: tuple[Shard, ...]
    columns: JsonObject
    encoder: JsonObject
    codebooks: str
    settings: ShardSettings = field(default_factory=ShardSettings)

    @property
    def rows(self) -> int:
        """Count the rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def outputs(self) -> Path:
        """Give the folder of the outputs."""
        return self.folder / OUTPUTS

    @property
    def fingerprint(self) -> str:
        """Identify shards, columns, encoder and codebooks, wherever they lie."""
        page = {name: value for name, value in self.page().items() if name != "catalog"}
        return sha256(seal(page)).hexdigest()

    def page(self) -> dict[str, Json]:
        """Turn the plan into plain values."""
        return {
            "format_version": FORMAT,
            "kind": "genrail.shards",
            "catalog": str(self.catalog),
            "shards": [asdict(shard) for shard in self.shards],
            "columns": dict(self.columns),
            "encoder": dict(self.encoder),
            "codebooks": self.codebooks,
            "settings": asdict(self.settings),
        }

    @classmethod
    def load(cls, folder: str | Path, catalog: str | Path | None = None) -> ShardPlan:
        """Read a plan.

        Args:
            folder: Made by `plan_shards`.
            catalog: Where the shards lie on this machine; None for where they lay when they were planned.

        Raises:
            DamagedError: The plan was altered.
            FormatError: There is none, or it is of a newer version.
        """
        folder = Path(folder)
        path = folder / PLAN
        if not path.is_file():
            raise FormatError(f"{folder} holds no {PLAN}; make one with: genrail shard plan CATALOG --out {folder}")
        page = unseal(path.read_bytes(), path)
        if page.get("kind") != "genrail.shards":
            raise FormatError(f"{path} is no plan of shards; make one with: genrail shard plan CATALOG --out FOLDER")
        shards = tuple(Shard(**shard) for shard in page["shards"])
        place = Path(page["catalog"] if catalog is None else catalog)
        settings = ShardSettings(**page["settings"])
        return cls(folder, place, shards, page["columns"], page["encoder"], page["codebooks"], settings)

    def identifiers(self) -> SemanticIds:
        """Read the frozen codebooks.

        Raises:
            FingerprintError: They are not those of the plan.
        """
        from genrail.identifiers import SemanticIds

        found = SemanticIds.load(self.folder / CODEBOOKS)
        if found.fingerprint != self.codebooks:
            raise FingerprintError(
                f"the codebooks in {self.folder} are {found.fingerprint}, the plan was made with {self.codebooks}; "
                "plan again in a new folder"
            )
        return found

    def load_encoder(self, given: Encoder | str | Path | None = None) -> Encoder:
        """Load the text encoder that the codebooks were fitted with.

        Args:
            given: An encoder object, if it is not one that can be loaded by name.

        Raises:
            FingerprintError: The one found here is another.
        """
        from genrail.models.encoders import load_encoder

        found = load_encoder(self.encoder["name"] if given is None else given, self.encoder["max_tokens"])
        _check_encoder(found, self.encoder, self.folder)
        return found

    def choose(self, which: str | None) -> list[Shard]:
        """Pick shards: None for all, ``I/N`` for every N-th from the I-th on (from 1), or the name of one.

        Raises:
            SettingsError: It is none of these.

        >>> shards = tuple(Shard(f"{n}.parquet", 1, "") for n in range(5))
        >>> plan = ShardPlan(Path("."), Path("."), shards, {}, {}, "")
        >>> [shard.name for shard in plan.choose("2/2")]
        ['1.parquet', '3.parquet']
        """
        if which is None:
            return list(self.shards)
        named = [shard for shard in self.shards if shard.name == which]
        if named:
            return named
        number, slash, count = which.partition("/")
        if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return list(self.shards[int(number) - 1 :: int(count)])
        raise SettingsError(
            f"--shard is {which!r}; give I/N with I from 1 to N, or the name of a shard such as {self.shards[0].name}"
        )


def _check_encoder(found: Encoder, expected: JsonObject, folder: Path) -> None:
    if found.fingerprint != expected["fingerprint"]:
        raise FingerprintError(
            f"the codebooks of {folder} belong to the text encoder {expected['name']!r} ({expected['fingerprint']}), "
            f"but this one is {found.name!r} ({found.fingerprint}); use that encoder, or fit codebooks anew"
        )


def plan_shards(
    catalog: str | Path,
    folder: str | Path,
    *,
    item_id: str | None = None,
    title: str | None = None,
    text: Sequence[str] | None = None,
    encoder: Encoder | str | Path | None = None,
    settings: ShardSettings | None = None,
    codebooks: str | Path | None = None,
    progress: Progress | None = None,
) -> ShardPlan:
    """Check the shards of a catalogue, fit the codebooks on a sample, and write the plan.

    The same call again leaves a plan as it is.

    Args:
        catalog: Folder of ``*.parquet`` files with one schema; their order by name is the catalogue's order.
        folder: Of the plan and, later, the outputs.
        item_id: Column of the ids; guessed from the first shard otherwise.
        title: Column of the titles; guessed otherwise.
        text: Further text columns; guessed otherwise.
        encoder: As for `Engine.build`.
        settings: Codebooks and sample.
        codebooks: Another plan's folder, whose frozen codebooks are used instead of fitting new ones.
        progress: Called with (stage, done, total).

    Raises:
        CatalogError: No shards, shards of different schemas, or a shard that cannot be read.
        FingerprintError: The folder holds the plan of another catalogue, or `codebooks` are of another encoder.

    Cost: each shard is hashed; the sample is encoded and the codebooks are fitted on it.
    """
    from genrail.models.encoders import load_encoder
    from genrail.types import silent

    place, target, chosen = Path(catalog), Path(folder), settings or ShardSettings()
    told = progress or silent
    paths = _shard_paths(place)
    _check_schemas(paths)
    shards = tuple(_described(path, told, number, len(paths)) for number, path in enumerate(paths))
    first = Catalog.read(paths[0], item_id=item_id, title=title, text=text, allow_large=True)
    columns = {"item_id": first.columns.item_id, "title": first.columns.title, "text": list(first.columns.text)}
    found = load_encoder(encoder)
    named = {
        "name": found.name,
        "fingerprint": found.fingerprint,
        "dimensions": found.dimensions,
        "max_tokens": getattr(found, "max_tokens", None),
    }
    earlier = ShardPlan.load(target) if (target / PLAN).exists() else None
    if earlier is not None:
        _check_same(earlier, ShardPlan(target, place, shards, columns, named, earlier.codebooks, chosen))
        return earlier
    if codebooks is not None:
        before = ShardPlan.load(codebooks)
        _check_encoder(found, before.encoder, before.folder)
        identifiers = before.identifiers()
    else:
        texts = _sample(ShardPlan(target, place, shards, columns, named, "", chosen), told)
        identifiers = _fitted(texts, found, sum(shard.rows for shard in shards), chosen, told)
    plan = ShardPlan(target, place.resolve(), shards, columns, named, identifiers.fingerprint, chosen)
    with naming(target, "planning"):
        (target / CODEBOOKS).mkdir(parents=True, exist_ok=True)
        plan.outputs.mkdir(exist_ok=True)
        identifiers.save(target / CODEBOOKS)
    write_whole(target / PLAN, seal(plan.page()))
    return plan


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name, wait for the device, and rename it: there is a whole one or none."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with naming(path, "writing"):
        DISK.write(part, data)
        DISK.sync(part)
        DISK.rename(part, path)
        DISK.sync(path.parent)


def read_shard(plan: ShardPlan, shard: Shard, *, check: bool = True) -> Catalog:
    """Read the items of one shard by the columns of the plan.

    Args:
        plan: Names the columns.
        shard: Which one.
        check: Compare its bytes with the plan first.

    Raises:
        CatalogError: The shard holds no item, or an id twice.
        DamagedError: It is missing, or not as it was planned.
    """
    path = plan.catalog / shard.name
    if not path.is_file():
        raise DamagedError(f"{path} is missing; bring it back, or say with --catalog where the shards lie")
    if check and DISK.digest(path)[1] != shard.sha256:
        raise DamagedError(f"{path} was damaged or changed after it was planned; restore it, or plan in a new folder")
    columns = plan.columns
    return Catalog.read(
        path, item_id=columns["item_id"], title=columns["title"], text=columns["text"], allow_large=True
    )


def _shard_paths(place: Path) -> list[Path]:
    paths = sorted(place.glob("*.parquet")) if place.is_dir() else []
    if not paths:
        raise CatalogError(f"{place}: no shards found; give a folder that holds *.parquet files")
    return paths


def _check_schemas(paths: list[Path]) -> None:
    first: JsonObject | None = None
    for path in paths:
        try:
            schema = dict(pl.read_parquet_schema(path))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise CatalogError(f"{path}: the shard is damaged ({error}); write it again") from None
        first = schema if first is None else first
        if list(schema.items()) != list(first.items()):
            pairs = {*schema.items(), *first.items()} - (schema.items() & first.items())
            name = min((name for name, _ in pairs), default=next(iter(schema)))
            raise CatalogError(
                f'{path.name}: its schema differs from that of {paths[0].name} at column "{name}" '
                f"({schema.get(name, 'absent')} here, {first.get(name, 'absent')} there); "
                "write all shards with the same columns, types and order"
            )


def _described(path: Path, progress: Progress, number: int, total: int) -> Shard:
    from pyarrow import parquet

    digest = DISK.digest(path)[1]
    progress("checksums", number + 1, total)
    with parquet.ParquetFile(path) as file:
        return Shard(path.name, int(file.metadata.num_rows), digest)


def _check_same(earlier: ShardPlan, wanted: ShardPlan) -> None:
    if earlier.fingerprint == wanted.fingerprint:
        return
    differ = [
        name
        for name, value in wanted.page().items()
        if name not in ("catalog", "codebooks") and value != earlier.page()[name]
    ]
    raise FingerprintError(
        f"{earlier.folder} holds the plan of another catalogue or of other settings ({', '.join(differ)} differ); "
        "give a new folder"
    )


def _sample(plan: ShardPlan, progress: Progress) -> list[str]:
    """Draw items of all shards, in catalogue order; all of them where they are few."""
    rows = np.arange(plan.rows)
    if plan.rows > plan.settings.sample:
        random = generator(plan.settings.seed, "shard sample")
        rows = np.sort(random.choice(plan.rows, plan.settings.sample, replace=False))
    texts: list[str] = []
    begin = 0
    for number, shard in enumerate(plan.shards):
        mine = rows[(rows >= begin) & (rows < begin + shard.rows)] - begin
        begin += shard.rows
        if len(mine):
            found = read_shard(plan, shard, check=False).texts()
            texts += [found[row] for row in mine if row < len(found)]  # refused rows make a shard shorter
        progress("sample", number + 1, len(plan.shards))
    return texts


def _fitted(texts: list[str], encoder: Encoder, rows: int, settings: ShardSettings, progress: Progress) -> SemanticIds:
    from genrail.finders.native import NativeRecipe
    from genrail.identifiers import SemanticIds

    vectors = encoder.encode(texts, lambda done, total: progress("text vectors of the sample", done, total))
    codes = NativeRecipe(codes=settings.codes).codebook(rows)
    return SemanticIds.fit(vectors, settings.levels, codes, settings.seed)
