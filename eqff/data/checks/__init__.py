"""One check a file: `check(subject)` looks at a data set and says what it found.

`eqff.data.forensics.examination` runs all.
"""
