"""Messages of the `wal2json` plugin, format version 2, to the same Arrow columns as those of pgoutput."""
