"""Compiled arithmetic on plain arrays; knows no columns, no dataset and no file. Only `metrics` uses it."""
