"""What ASE asks for at its entry point `ase.ioformats`: how `ase.io.read` recognises eqff's data file.

Recognised by content, not by suffix: `.h5` belongs to many programs.  Light, as every `import ase.io` loads it.
"""

from ase.utils.plugins import ExternalIOFormat

STORE = ExternalIOFormat(
    desc="eqff data file (HDF5)",
    code="+S",  # many images; wants the name of the file
    module="eqff.data.store.ase_store",
    magic=b"\x89HDF\r\n\x1a\n*eqff-store",
)
