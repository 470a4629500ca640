"""Everything that talks to a PostgreSQL source; the only importer of the driver."""
