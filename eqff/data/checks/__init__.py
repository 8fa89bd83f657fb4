"""Checks of data sets, one per file: `check(subject)` yields findings; `eqff.data.forensics.examination` runs all."""
