"""The exam: what is expected of anything that gives energies and forces, measured and compared with limits.

subject.py      what is examined: a model, a program, an ASE calculator; each states its tolerances (limits.py)
checks/         a subject a file; a check states what it needs by the type of its parameter
finding.py      what a check gives: numbers, limits and a sentence
examination.py  all checks by name, and running several of them

`eqff wrap` and export run these checks on what they write, tests/conformance on every family of models.
"""
