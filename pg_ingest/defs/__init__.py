"""Dagster definitions made from a configuration and a catalogue; the only importer of dagster."""
