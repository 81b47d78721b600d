"""The figures of ``docs/benchmarks.md``: ratios within one run, never single absolute times."""
