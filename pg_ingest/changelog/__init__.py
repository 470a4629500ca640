"""The durable change log between capture and apply: segments, manifest, and the fold to last states."""
