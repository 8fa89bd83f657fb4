"""A subject a file; every function marked `@check` is found by its presence and run on all subjects it suits.

What a check needs is the type of its parameter: any `Subject`, an `EdgeSubject`, a `ModelSubject`, a `FamilySubject`.
"""
