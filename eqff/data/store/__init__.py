"""The HDF5 store: one file for any number of frames."""
