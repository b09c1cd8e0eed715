"""Dagster definitions: assets, checks, partitions, resources, automation."""
