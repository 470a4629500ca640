"""The code location: `pg_ingest.yaml` (or `$PG_INGEST_CONFIG`) as Dagster definitions."""

import dagster as dg

from pg_ingest.defs.factory import build_definitions
from pg_ingest.defs.saved import read_saved


@dg.definitions
def defs() -> dg.Definitions:
    """Read the configuration and the saved catalogues; connect to nothing."""
    return build_definitions(*read_saved())
