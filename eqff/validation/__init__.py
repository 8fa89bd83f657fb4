"""The exam: one check a file, run over any model, potential file or ASE calculator."""
