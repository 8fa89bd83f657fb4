"""Mathematics of rotations: irreps, coupling coefficients, spherical harmonics."""
