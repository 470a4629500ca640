"""The demo: an embedded PostgreSQL, a shop, a live workload, and a comparison of both sides."""
