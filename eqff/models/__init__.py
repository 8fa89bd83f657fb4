"""Model families, one file each: `Config`, `Model`, `SYMMETRY`."""
