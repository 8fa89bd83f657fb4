"""The entry point `ase.ioformats`: it tells `ase.io.read` how to recognise eqff's data file.

ASE recognises it by its content, because `.h5` belongs to many programs.  Every `import ase.io` imports this module, so
it imports nothing of eqff.
"""

from ase.utils.plugins import ExternalIOFormat

STORE = ExternalIOFormat(
    desc="eqff data file (HDF5)",
    code="+S",  # many images; the reader takes a file name
    module="eqff.data.store.ase_store",
    magic=b"\x89HDF\r\n\x1a\n*eqff-store",
)
