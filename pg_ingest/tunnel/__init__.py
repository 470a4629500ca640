"""The way to a database through SSH: one shared connection, and a local port that only this process may use."""
