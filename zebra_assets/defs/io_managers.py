"""One IO manager: tables rest in the object store, models in MLflow, nouns as JSON; what travels is a light handle.

An output is stored by its type and leaves a small JSON pointer per asset and partition; an input is read by the type the
consumer asks for: `TableHandle` or `pa.Table`, `ModelHandle`, or the noun itself. A table's blob is content-addressed, so
materialising a partition again leaves the old blob readable until nothing points at it.
"""

import tempfile
from pathlib import Path
from typing import Any, get_args

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from zebra_assets.contracts.digest import file_digest
from zebra_assets.contracts.noun import Noun
from zebra_assets.contracts.run import Run
from zebra_assets.defs.handles import ModelHandle, TableHandle
from zebra_assets.defs.resources import House
from zebra_assets.errors import NotFound, UsageError


class ZebraIOManager(dg.ConfigurableIOManager):
    """Stores `pa.Table`, `Run` (a trained, registered model) and any other noun."""

    house: dg.ResourceDependency[House]

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        if obj is None:
            return
        handle = self._store(context, obj)
        self.house.parts.store.put(_pointer(context), handle.to_json().encode(), overwrite=True)
        context.add_output_metadata(_facts(handle))

    def load_input(self, context: dg.InputContext) -> Any:
        wanted = _wanted(context.dagster_type.typing_type)
        store = self.house.parts.store
        try:
            raw = store.get(_pointer(context))
        except NotFound as error:
            raise NotFound(
                f"{context.asset_key.to_user_string()} has no stored output for partition {_partition(context)}.",
                fix=f"materialize it first: dagster asset materialize --select '{context.asset_key.to_user_string()}' "
                f"--partition {_partition(context)} -m zebra_assets.defs.definitions",
            ) from error
        if wanted is pa.Table:
            return pq.read_table(store.fetch(TableHandle.model_validate_json(raw).key))
        return wanted.model_validate_json(raw)

    def _store(self, context: dg.OutputContext, obj: Any) -> Noun:
        if isinstance(obj, pa.Table):
            return self._store_table(context, obj)
        if isinstance(obj, Run):
            return model_handle(obj)
        if isinstance(obj, Noun):
            return obj
        raise UsageError(
            f"{context.asset_key.to_user_string()} returned a {type(obj).__name__}, which this IO manager does not store.",
            fix="return a pyarrow.Table (`pa.Table.from_pandas(df)`), a trained Run or one of the nouns in zebra_assets.contracts",
        )

    def _store_table(self, context: dg.OutputContext, table: pa.Table) -> TableHandle:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "table.parquet"
            pq.write_table(table, path, compression="zstd")
            digest = file_digest(path)
            key = f"blobs/sha256/{digest[:2]}/{digest}.parquet"
            uri = self.house.parts.store.put(key, path)
            context.add_output_metadata(
                {
                    "dagster/column_schema": dg.TableSchema(columns=[dg.TableColumn(f.name, str(f.type)) for f in table.schema]),
                    "dagster/row_count": table.num_rows,
                }
            )
            return TableHandle(key=key, uri=uri, digest=digest, rows=table.num_rows, bytes=path.stat().st_size)


def model_handle(run: Run) -> ModelHandle:
    """The handle of a finished run's registered version."""
    if not (run.version and run.model_digest and run.mlflow_run_id):
        raise NotFound(f"Run {run.id} has no registered version (state: {run.state}).", fix=f"mlops train {run.model}")
    return ModelHandle(
        model=run.model,
        version=run.version,
        model_digest=run.model_digest,
        run_id=run.id,
        mlflow_run_id=run.mlflow_run_id,
        manifest_id=run.manifest_id,
    )


def _partition(context: dg.OutputContext | dg.InputContext) -> str:
    return context.partition_key if context.has_partition_key or context.has_asset_partitions else "all"


def _pointer(context: dg.OutputContext | dg.InputContext) -> str:
    if isinstance(context, dg.InputContext):
        partition = context.asset_partition_key if context.has_asset_partitions else "all"
    else:
        partition = context.partition_key if context.has_partition_key else "all"
    return f"assets/{'/'.join(context.asset_key.path)}/{partition}.json"


def _wanted(annotation: Any) -> Any:
    """The class behind an annotation, `Optional` taken off."""
    return next((a for a in get_args(annotation) if a is not type(None)), annotation)


def _facts(handle: Noun) -> dict[str, Any]:
    if isinstance(handle, TableHandle):
        return {"uri": dg.MetadataValue.path(handle.uri), "size": handle.bytes, "digest": handle.digest}
    if isinstance(handle, ModelHandle):
        return {"model": handle.uri, "digest": handle.model_digest, "run id": handle.run_id}
    return {}
