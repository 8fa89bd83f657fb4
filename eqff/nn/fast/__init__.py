"""Modules exchanged for fast ones of the same function: compiled kernels, radial splines, Triton."""
