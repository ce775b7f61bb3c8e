"""Feast: historical features, joined as of each entity row's own time (Feast's point-in-time join).

`source.path` is the feature repository (the folder of feature_store.yaml). The entity rows, keys and `event_timestamp`,
come from the file `entities` or from `source.query`, where the offline store takes SQL; their other columns, a label
above all, pass through. Feast builds the whole result in memory, and in no order that would repeat: give the recipe a key.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv as pacsv
from pydantic import Field, model_validator

from zebra_assets.contracts.dataset_spec import Dtype, SourceSpec
from zebra_assets.contracts.digest import digest_of, file_digest, sha256
from zebra_assets.contracts.names import safe_join
from zebra_assets.contracts.noun import Noun
from zebra_assets.datasets.connector import BATCH_ROWS, match_columns, options
from zebra_assets.datasets.dtypes import ARROW
from zebra_assets.errors import DataInvalid, NotFound, Refused, SpecInvalid, Unavailable

MODE = "PROMETHEUS_MULTIPROC_DIR"
EVENT_TIME, ROW = "event_timestamp", "zebra_entity_row"


def _feast() -> Any:
    """Feast (3 s), without what its import does to everybody: it turns Prometheus' client to multi-process mode.

    The client chooses its mode when it is first imported, and processes started later inherit the variable.
    """
    import prometheus_client  # noqa: F401  before Feast

    before = os.environ.get(MODE)
    try:
        import feast
    finally:
        if before is None:
            os.environ.pop(MODE, None)
    return feast


class Config(Noun):
    """`source.parameters` of this connector."""

    entities: str | None = Field(default=None, description="CSV or Parquet file with the join keys and event_timestamp.")
    features: list[str] = Field(default_factory=list, description="As view:feature.")
    service: str | None = Field(default=None, description="Instead: a feature service.")
    full_feature_names: bool = Field(default=False, description="Name the columns view__feature.")
    filter_by_created_timestamp: bool = Field(default=False, description="Leave out values that were written later than the entity's time.")

    @model_validator(mode="after")
    def _features_or_a_service(self) -> Self:
        if bool(self.features) == (self.service is not None):
            raise ValueError("give either `features` or `service`")
        return self


class Feast:
    """Entity rows with their features."""

    def __init__(self, source: SourceSpec, *, project: Path, secrets: Mapping[str, str]) -> None:
        self.config = options(Config, source)
        if not source.path:
            raise SpecInvalid("source.path is missing: the feast connector needs a feature repository.", fix="path: feature_repo")
        if (self.config.entities is None) == (source.query is None):
            raise SpecInvalid("The entity rows come from a file or from a query.", fix="parameters: {entities: data/entities.csv}")
        self.path, self.repo, self.query = source.path, _below(project, source.path), source.query
        self.entities = None if self.config.entities is None else _below(project, self.config.entities)
        self._revision: str | None = None
        self._read = False

    def batches(self, columns: Mapping[str, Dtype]) -> Iterator[pa.RecordBatch]:
        """See `Connector.batches`. Files that change while Feast reads them fail the whole read."""
        with self._explained():
            store = self._store()
            before = self._state(store)
            rows = None if self.entities is None else self._entities(columns)
            table = self._joined(store, rows)
            keys = [key for view in self._views(store) for key in getattr(view, "join_keys", ())]
            self._revision, self._read = self._state(store), True
        if rows is not None:
            table = _complete(table, rows, keys)
        if self._revision != before:
            raise DataInvalid(f"A file of {self.location()} changed while it was read; nothing was committed.", fix="run the ingest again")
        yield from table.select(match_columns(table.column_names, columns, self.location())).to_batches(max_chunksize=BATCH_ROWS)

    def revision(self) -> str | None:
        """Digest of the views' definitions, the entity file and the feature files; None where rows come from a database."""
        if not self._read:
            with self._explained():
                self._revision = self._state(self._store())
        return self._revision

    def location(self) -> str:
        """The repository as the recipe writes it."""
        return self.path

    def _store(self) -> Any:
        if not (self.repo / "feature_store.yaml").is_file():
            raise NotFound(
                f"There is no feature repository at {self.location()}.", fix="name the folder of feature_store.yaml in source.path"
            )
        try:
            library = _feast()
        except ImportError as error:
            raise SpecInvalid(f"The feast connector needs feast: {error}.", fix="pip install 'feast>=0.67'") from error
        return library.FeatureStore(repo_path=str(self.repo))

    def _joined(self, store: Any, rows: pa.Table | None) -> pa.Table:
        c = self.config
        numbered = None if rows is None else rows.append_column(ROW, pa.array(range(len(rows)))).to_pandas()
        job = store.get_historical_features(
            entity_df=self.query if numbered is None else numbered,
            features=store.get_feature_service(c.service) if c.service else c.features,
            full_feature_names=c.full_feature_names,
            **({"filter_by_created_timestamp": True} if c.filter_by_created_timestamp else {}),
        )
        return job.to_arrow()

    def _entities(self, columns: Mapping[str, Dtype]) -> pa.Table:
        """The entity rows; declared types as declared, times as they are written."""
        file = self.entities
        if file is None or not file.is_file():
            raise NotFound(f"There is no entity file {self.config.entities}.", fix="correct source.parameters.entities in dataset.yaml")
        if file.suffix == ".parquet":
            table = pq.read_table(file)
        else:
            declared = {name: ARROW[dtype] for name, dtype in columns.items() if dtype not in ("timestamp", "date")}
            table = pacsv.read_csv(
                file,
                convert_options=pacsv.ConvertOptions(
                    column_types=declared, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
                ),
            )
        if EVENT_TIME not in table.column_names:
            raise DataInvalid(f"{self.config.entities} has no column {EVENT_TIME}.", fix=f"name the time of each row {EVENT_TIME}")
        return table

    def _state(self, store: Any) -> str | None:
        if self.entities is None:
            return None
        views = self._views(store)
        files = [_source_files(self.repo, view) for view in views]
        if not self.entities.is_file() or any(found is None for found in files):
            return None
        digests = [[str(file), file_digest(file)] for found in files for file in found or ()]
        definitions = [sha256(view.to_proto().spec.SerializeToString(deterministic=True)) for view in views]
        return digest_of([version("feast"), self.config.model_dump(mode="json"), definitions, file_digest(self.entities), digests])

    def _views(self, store: Any) -> list[Any]:
        """The feature views that the features come from, by name."""
        if self.config.service:
            names = {p.name for p in store.get_feature_service(self.config.service).feature_view_projections}
        else:
            names = {feature.partition(":")[0].partition("@")[0] for feature in self.config.features}
        return [view for view in sorted(store.list_all_feature_views(), key=lambda v: str(v.name)) if view.name in names]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What Feast raises: its own errors, and bare KeyErrors and ValueErrors for what a recipe got wrong."""
        where = self.location()
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound(f"A file of {where} is not there: {_said(error)}", fix="look with: feast feature-views list") from error
        except OSError as error:
            raise Unavailable(f"{where} cannot be read: {_said(error)}", fix="check the offline store and the registry") from error
        except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
            raise SpecInvalid(
                f"{where}: feast refused: {_said(error)}",
                fix=f"features as view:feature that were applied; entity rows with every join key and {EVENT_TIME}",
            ) from error
        except Exception as error:
            # Feast's own base class, known by name: importing feast takes seconds, and it may be what is missing.
            if not any(kind.__module__ == "feast.errors" for kind in type(error).__mro__):
                raise
            raise NotFound(f"{where}: {_said(error)}", fix=f"feast -c {self.repo} apply, or correct the names in dataset.yaml") from error


def _complete(joined: pa.Table, rows: pa.Table, keys: list[str]) -> pa.Table:
    """``joined`` with the entity rows that Feast left out, as the left join that it promises.

    Its file store (0.67) drops rows whose entity has later values only, and all but one row of the same keys and time:
    the first get no features, the others those of the row that was kept.
    """
    missing = pc.invert(pc.is_in(pa.array(range(len(rows))), joined[ROW].combine_chunks()))
    lost = rows.filter(missing)
    if not len(lost):
        return joined.drop_columns(ROW)
    of = list(dict.fromkeys([*keys, EVENT_TIME]))
    features = [name for name in joined.column_names if name not in rows.column_names and name != ROW]
    known = joined.group_by(of, use_threads=False).aggregate([(name, "first") for name in features])
    known = known.rename_columns({f"{name}_first": name for name in features})
    lost = lost.cast(pa.schema([joined.schema.field(name) for name in lost.column_names]))
    found = lost.join(known, of, join_type="left outer").select([name for name in joined.column_names if name != ROW])
    return pa.concat_tables([joined.drop_columns(ROW), found.cast(joined.drop_columns(ROW).schema)])


def _below(project: Path, path: str) -> Path:
    if ".." in Path(path).parts:
        raise Refused(f"{path!r} contains '..'.", fix="use a path below the project, or an absolute one")
    return Path(path) if Path(path).is_absolute() else safe_join(project, path)


def _source_files(repo: Path, view: Any) -> Iterable[Path] | None:
    """The files that a feature view reads; None where it reads something else, or is computed from other views."""
    source = getattr(view, "batch_source", None)
    path = getattr(source, "path", None)
    if type(source).__name__ != "FileSource" or not path or "://" in path:
        return None
    place = repo / path
    return sorted(f for f in place.rglob("*") if f.is_file()) if place.is_dir() else [place]


def _said(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if len(words) <= 300 else words[:297] + "..."


KIND = Feast
