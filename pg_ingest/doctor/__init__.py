"""Every precondition of a replication, tested; all findings in one pass, nothing changed anywhere."""
