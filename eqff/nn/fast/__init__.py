"""Fast replacements of modules that compute the same function: compiled kernels, radial splines, Triton."""
