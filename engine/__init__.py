"""How any shard of anything is planned, run, committed and resumed; the names below are what custom steps use."""

from .records.column import Column, FolderColumn, ParquetColumn, TarColumn
from .records.sample import Drop, Row, Sample
from .steps.asset_settings import AssetUri
from .steps.barrier import Barrier, BarrierContext, BarrierError
from .steps.function import stage
from .steps.step import PipelinedStage, SourceStage, Stage, StageContext

__all__ = [
    "AssetUri",
    "Barrier",
    "BarrierContext",
    "BarrierError",
    "Column",
    "Drop",
    "FolderColumn",
    "ParquetColumn",
    "PipelinedStage",
    "Row",
    "Sample",
    "SourceStage",
    "Stage",
    "StageContext",
    "TarColumn",
    "stage",
]
