"""The replication methods: each answers what must be stored now, and up to where."""
