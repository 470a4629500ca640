"""Following a log: captured for a database, applied table by table."""
