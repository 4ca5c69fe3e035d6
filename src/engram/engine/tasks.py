"""Pieces of work that another process, perhaps on another machine, does for this one.

A piece is plain data: bytes, texts and numbers, so that it means the same everywhere. Where both
sides see the same disk, results are written into the store at once and models are named by their
path; where they do not, files travel.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from engram import catalog
from engram.core import Split, Target
from engram.engine.executor import Fit
from engram.engine.run import EngineRun, Reading
from engram.store import TARGET, read_json, write_json

Files = Mapping[str, bytes]
"""Contents by name; files of a target's folders as `shards/0/config.json`."""


def files_of(folder: Path) -> Files:
    """The files of a folder; of a target of ours, those of its folders too."""
    ours = (folder / TARGET).is_file()
    found = sorted(folder.rglob("*") if ours else folder.iterdir())
    inside = {path: path.relative_to(folder) for path in found if path.is_file()}
    seen = {p: i for p, i in inside.items() if not any(n[0] == "." for n in i.parts[:-1])}
    return {name.as_posix(): path.read_bytes() for path, name in seen.items()}


def write_files(files: Files, folder: Path) -> None:
    """Write them below a folder; no name leads out of it."""
    for name, data in files.items():
        steps = [step for step in PurePosixPath(name).parts if step not in ("/", "..")]
        place = folder.joinpath(*steps)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


@dataclass(frozen=True)
class Records:
    """A split as bytes."""

    name: str
    table: bytes
    shared: Mapping[str, bytes]

    @classmethod
    def of(cls, split: Split) -> "Records":
        """Pack a split."""
        sink = pa.BufferOutputStream()
        table = split.to_table()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        shared = {name: _array_bytes(values) for name, values in split.shared.items()}
        return cls(split.name, sink.getvalue().to_pybytes(), shared)

    def split(self) -> Split:
        """Unpack it; the same ids, contents and fingerprint."""
        with pa.ipc.open_stream(self.table) as reader:
            table = reader.read_all()
        shared = {
            name: np.load(BytesIO(data), allow_pickle=False) for name, data in self.shared.items()
        }
        return Split.from_table(self.name, table, shared=shared)


def _array_bytes(values: np.ndarray) -> bytes:
    sink = BytesIO()
    np.save(sink, values, allow_pickle=False)
    return sink.getvalue()


@dataclass(frozen=True)
class Model:
    """A model by its folder or name, with its files where the other side has no such folder."""

    where: str
    files: Files | None = None

    @classmethod
    def of(cls, where: str, *, shared_disk: bool) -> "Model":
        """Name a model; its files come along where the disk is not shared."""
        folder = Path(where)
        if shared_disk or not folder.is_dir():
            return cls(where)
        files = files_of(folder)
        return cls(where, files)

    def local(self) -> str:
        """Where it is here: its own place, or a folder of the temporary files."""
        if self.files is None:
            return self.where
        total = sha256()
        for name, data in self.files.items():
            total.update(name.encode() + sha256(data).digest())
        home = Path(tempfile.gettempdir()) / f"engram-models-{os.getuid()}"
        folder = home / total.hexdigest()[:24]
        if not folder.is_dir():
            home.mkdir(mode=0o700, exist_ok=True)
            part = Path(tempfile.mkdtemp(dir=home))
            write_files(self.files, part)
            try:
                part.rename(folder)
            except OSError:  # another task put it there meanwhile
                shutil.rmtree(part, ignore_errors=True)
        return str(folder)


@dataclass(frozen=True)
class Place:
    """Where a piece of work is done.

    Attributes:
        root: The store, where the disk is shared; "" where files must travel.
        device: Where to compute.
        reading: Fields of `Reading`.
    """

    root: str
    device: str
    reading: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, run: EngineRun, *, shared_disk: bool) -> "Place":
        """The place of a run."""
        root = str(run.root.resolve()) if shared_disk else ""
        return cls(root, run.device, asdict(run.reading))

    def run(self, root: Path, seed: int = 0) -> EngineRun:
        """A run of the engine there."""
        reading = Reading(**self.reading)
        return EngineRun(seed, self.device, root, root / "scratch", reading)


@dataclass(frozen=True)
class Product:
    """A folder that a piece of work filled, by its name in the store."""

    name: str
    files: Files | None = None

    def put(self, root: Path) -> Path:
        """Write it into a store, unless it is there already."""
        folder = root / self.name
        if self.files is not None and not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".incoming-"))
            write_files(self.files, part)
            part.rename(folder)
        return folder


@dataclass(frozen=True)
class FitTask:
    """Train one target."""

    recipe: str
    config: Mapping[str, Any]
    records: Records
    seed: int
    base: Model | None
    place: Place

    @classmethod
    def of(cls, job: Fit, run: EngineRun, *, shared_disk: bool) -> "FitTask":
        """Pack a job."""
        base = getattr(job.recipe, "base", "")
        return cls(
            catalog.name_of(job.recipe),
            asdict(job.recipe),
            Records.of(job.split),
            job.seed,
            Model.of(base, shared_disk=shared_disk) if base else None,
            Place.of(run, shared_disk=shared_disk),
        )

    def __call__(self) -> Product:
        """Train, or find the target in the store."""
        method = catalog.find("recipes", self.recipe).load()
        base = {"base": self.base.local()} if self.base else {}
        recipe = method(**{**self.config, **base})
        return _in_store(self.place, lambda root: self._fit(recipe, root), self._mend)

    def _fit(self, recipe: Any, root: Path) -> Path:
        target = self.place.run(root, self.seed).fit(recipe, self.records.split())
        assert target.folder is not None  # the engine has just sealed it there
        return target.folder

    def _mend(self, folder: Path) -> None:
        """The base is where the user has it, not where it lay while this was trained."""
        if self.base is None or self.base.files is None:
            return
        document = read_json(folder / TARGET)
        document["lineage"]["base"] = self.base.where
        document["lineage"]["config"]["base"] = self.base.where
        write_json(folder / TARGET, document)


@dataclass(frozen=True)
class TokensTask:
    """Read some records of a split with a language model."""

    model: Model
    family: str
    fingerprint: str
    records: Records
    place: Place

    def __call__(self) -> Product:
        """Fill the folder of these records' token signals."""
        return _in_store(self.place, self._read)

    def _read(self, root: Path) -> Path:
        run = self.place.run(root)
        target = _opened(self.model.local(), self.family, self.place.device)
        split = self.records.split()
        run.tokens(replace(target, fingerprint=self.fingerprint), split)
        return run.tokens_store(target.model, split, self.fingerprint).folder


_MODELS: dict[tuple[str, str, str], Target] = {}


def _opened(where: str, family: str, device: str) -> Target:
    """The model of the last task, if it is the same: shards of one audit follow each other."""
    from engram.engine import targets

    key = (where, family, device)
    if key not in _MODELS:
        _MODELS.clear()
        _MODELS[key] = targets.load(where, device, family)
    return _MODELS[key]


def _in_store(place: Place, work: Any, mend: Any = lambda folder: None) -> Product:
    """Do the work in the shared store, or in one of our own whose folder then travels."""
    if place.root:
        root = Path(place.root)
        return Product(str(work(root).relative_to(root)))
    with tempfile.TemporaryDirectory(prefix="engram-") as own:
        root = Path(own).resolve()
        folder = work(root)
        mend(folder)
        files = files_of(folder)
        return Product(str(folder.relative_to(root)), files)
