"""The configuration file: its model, how it is read, how tables are selected by it."""
