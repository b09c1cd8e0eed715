"""The health report: what is looked at, side by side and within a bound on time, and how it is told."""
