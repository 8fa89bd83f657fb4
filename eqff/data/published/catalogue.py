"""Catalogue of published data sets: addresses, contents, authors and licences.

A SHA-256 is given only where it was computed from the file itself.  For other files the SHA-256 of the first download
is kept beside the file, so that a later download that differs is noticed.
"""

from dataclasses import dataclass

GDML = ("http://www.quantum-machine.org/gdml/data/npz/", "http://www.quantum-machine.org/gdml/repo/datasets/")
FIGSHARE = ("https://ndownloader.figshare.com/files/", "https://figshare.com/ndownloader/files/")
BOTNET = "davkovacs/BOTNet-datasets", "29e6d467317e4b5967b7ea5cbee54de953fa0d45"
UNSTATED = "not stated by its authors; ask them before passing it on"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file and its mirrors."""

    name: str  # of the local file
    urls: tuple[str, ...]  # mirrors, tried in this order
    sha256: str | None = None
    members: tuple[str, ...] = ()  # endings of the names that are unpacked from an archive; empty: not unpacked


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A published data set."""

    title: str
    files: tuple[RemoteFile, ...]
    theory: str
    units: str
    licence: str
    citation: str
    page: str
    note: str = ""


_MD17 = {
    "title": "MD17, {}: molecular dynamics at 500 K",
    "theory": "PBE+TS",
    "units": "kcal/mol, Å (not stated in the file: --energy-unit kcal/mol)",
    "licence": UNSTATED,
    "citation": "Chmiela et al., Sci. Adv. 3, e1603015 (2017), doi:10.1126/sciadv.1603015",
    "page": "http://www.quantum-machine.org/gdml/",
    "note": "Net forces up to 0.25 kcal/mol/Å are noise of the labels; rmd17-* are the same structures, converged.",
}
_RMD17 = {
    "title": "revised MD17, {}: 100,000 frames of MD17 computed anew",
    "theory": "PBE/def2-SVP",
    "units": "kcal/mol, Å (not stated in the file: --energy-unit kcal/mol)",
    "licence": "CC0 1.0",
    "citation": "Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020), "
    "doi:10.1088/2632-2153/abba6f",
    "page": "https://doi.org/10.6084/m9.figshare.12672038",
    "note": "Do not train on more than 1,000 frames: they are correlated in time, and the test would say nothing.",
}
_CCSD = {
    "title": "{}, coupled cluster: train and test frames of sGDML",
    "theory": "CCSD(T)/cc-pVTZ (aspirin: CCSD/cc-pVDZ; larger molecules: CCSD(T)/cc-pVDZ)",
    "units": "kcal/mol, Å (not stated in the file: --energy-unit kcal/mol)",
    "licence": UNSTATED,
    "citation": "Chmiela et al., Nat. Commun. 9, 3887 (2018), doi:10.1038/s41467-018-06169-2",
    "page": "http://www.quantum-machine.org/gdml/",
}
_MD22 = {
    "title": "MD22, {}: molecular dynamics at 400 to 500 K",
    "theory": "PBE+MBD",
    "units": "kcal/mol, Å (not stated in the file: --energy-unit kcal/mol)",
    "licence": UNSTATED,
    "citation": "Chmiela et al., Sci. Adv. 9, eadf0873 (2023), doi:10.1126/sciadv.adf0873",
    "page": "http://www.quantum-machine.org/gdml/",
}
_MD17_FILES = {
    "aspirin": "md17_aspirin", "benzene": "md17_benzene2017", "ethanol": "md17_ethanol",
    "malonaldehyde": "md17_malonaldehyde", "naphthalene": "md17_naphthalene", "salicylic": "md17_salicylic",
    "toluene": "md17_toluene", "uracil": "md17_uracil", "azobenzene": "azobenzene_dft",
    "paracetamol": "paracetamol_dft",
}  # fmt: skip
_RMD17_FIGSHARE = {
    "aspirin": 62265757, "azobenzene": 62265754, "benzene": 62265739, "ethanol": 62265733, "malonaldehyde": 62265736,
    "naphthalene": 62265751, "paracetamol": 62265760, "salicylic": 62265748, "toluene": 62265742, "uracil": 62265745,
}  # fmt: skip
_MD22_FILES = {
    "ac-ala3-nhme": "md22_Ac-Ala3-NHMe", "dha": "md22_DHA", "stachyose": "md22_stachyose", "at-at": "md22_AT-AT",
    "at-at-cg-cg": "md22_AT-AT-CG-CG", "buckyball-catcher": "md22_buckyball-catcher",
    "double-walled-nanotube": "md22_double-walled_nanotube",
}  # fmt: skip
_CCSD_FILES = {
    "aspirin": "aspirin_ccsd", "benzene": "benzene_ccsd_t", "ethanol": "ethanol_ccsd_t",
    "malonaldehyde": "malonaldehyde_ccsd_t", "toluene": "toluene_ccsd_t",
}  # fmt: skip
_3BPA_FILES = {
    "train_300K.xyz": "d109971fab90e2231ad931a83eb704c8d940f5c7d7a8de27fe3b84ea18634c0a",
    "train_mixedT.xyz": "bc108532964b2ed259eaaabf82e5dfaffa5bda9ac384fc2afabcce192a49250b",
    "test_300K.xyz": None,
    "test_600K.xyz": None,
    "test_1200K.xyz": None,
    "test_dih.xyz": None,
    "iso_atoms.xyz": "e12a2465a2612bf38fd5dabdf64d4b57fc58ce9610a858c54ea1142d517c053f",
}
_ACAC_FILES = {
    "train_300K.xyz": "8f5706d6902360555a5be59395612d2afc3489a75688388a58e7275fdad68af3",
    "train_600K.xyz": "180c2538508f7810a623c279426f44953ee7cfb2af77e48ea3986ff97645a71c",
    "test_MD_300K.xyz": "2291f3186a3cc6a5e05e92952c84a9237ca53f862d78fd3316a769360719ec43",
    "test_MD_600K.xyz": "d5a5bba154ec43f915eb7529f86ec3af60e6f911743859daba030181a0378ff7",
    "test_dihedral.xyz": "0c2246a593579de5a4450698d5f4ba5802b095824b7f211aa5889339967c6809",
    "test_H_transfer.xyz": "ea4d76c79cf4cfccd2f93eaf755172b0b648886c4907eb0f82dff07a77530743",
    "isolated_atoms.xyz": "b74f321b453374621b447d65c60979f70df1b7182c8ee0215388b2c574f33823",
}


def _gdml(name: str) -> tuple[str, ...]:
    return tuple(f"{place}{name}" for place in GDML)


def _figshare(number: int) -> tuple[str, ...]:
    return tuple(f"{place}{number}" for place in FIGSHARE)


def _botnet(folder: str, files: dict[str, str | None]) -> tuple[RemoteFile, ...]:
    repository, commit = BOTNET
    roots = (
        f"https://raw.githubusercontent.com/{repository}/{commit}",
        f"https://cdn.jsdelivr.net/gh/{repository}@{commit}",
    )
    return tuple(
        RemoteFile(name=name, urls=tuple(f"{root}/{folder}/{name}" for root in roots), sha256=sha256)
        for name, sha256 in files.items()
    )


def _make(about: dict[str, str], what: str, *files: RemoteFile) -> DataSet:
    return DataSet(**(about | {"title": about["title"].format(what)}), files=files)  # type: ignore[arg-type]


DATA_SETS: dict[str, DataSet] = {
    **{
        f"rmd17-{name}": _make(_RMD17, name, RemoteFile(name=f"rmd17_{name}.npz", urls=_figshare(number)))
        for name, number in _RMD17_FIGSHARE.items()
    },
    "rmd17": _make(
        _RMD17,
        "all ten molecules with the official splits",
        RemoteFile(
            name="rmd17.tar.bz2",
            urls=(
                *_figshare(23950376),
                "https://archive.materialscloud.org/records/pfffs-fff86/files/rmd17.tar.bz2",
                "https://archive.materialscloud.org/record/file?filename=rmd17.tar.bz2&record_id=466",
            ),
            members=(".npz", ".csv"),
        ),
    ),
    **{
        f"md17-{name}": _make(_MD17, name, RemoteFile(name=f"{file}.npz", urls=_gdml(f"{file}.npz")))
        for name, file in _MD17_FILES.items()
    },
    **{
        f"ccsd-{name}": _make(_CCSD, name, RemoteFile(name=f"{file}.zip", urls=_gdml(f"{file}.zip"), members=(".npz",)))
        for name, file in _CCSD_FILES.items()
    },
    **{
        f"md22-{name}": _make(_MD22, name, RemoteFile(name=f"{file}.npz", urls=_gdml(f"{file}.npz")[::-1]))
        for name, file in _MD22_FILES.items()
    },
    "3bpa": DataSet(
        title="3BPA: a flexible drug-like molecule at 300, 600 and 1200 K, and dihedral scans",
        files=_botnet("dataset_3BPA", _3BPA_FILES),
        theory="ωB97X/6-31G(d)",
        units="eV, Å",
        licence="MIT",
        citation="Kovács et al., J. Chem. Theory Comput. 17, 7696 (2021), doi:10.1021/acs.jctc.1c00647",
        page="https://github.com/davkovacs/BOTNet-datasets",
        note="iso_atoms.xyz are single atoms: reference energies, not frames to train on.",
    ),
    "acac": DataSet(
        title="Acetylacetone at 300 and 600 K, a dihedral scan and the hydrogen transfer",
        files=_botnet("dataset_acac", dict(_ACAC_FILES)),
        theory="PBE-D3/def2-SVP",
        units="eV, Å",
        licence="MIT",
        citation="Batatia et al., The design space of E(3)-equivariant atom-centred interatomic potentials, "
        "doi:10.48550/arXiv.2205.06643",
        page="https://github.com/davkovacs/BOTNet-datasets",
    ),
    "qm9": DataSet(
        title="QM9: 133,885 small organic molecules at their minima, no forces",
        files=(
            RemoteFile(name="dsgdb9nsd.xyz.tar.bz2", urls=_figshare(3195389)),
            RemoteFile(name="qm9_uncharacterized.txt", urls=_figshare(3195404)),
        ),
        theory="B3LYP/6-31G(2df,p)",
        units="Hartree, Å (by convention of the format)",
        licence="see the page",
        citation="Ramakrishnan et al., Sci. Data 1, 140022 (2014), doi:10.1038/sdata.2014.22",
        page="https://doi.org/10.6084/m9.figshare.978904",
        note="3,054 molecules in qm9_uncharacterized.txt failed a consistency check and are usually left out.",
    ),
    "ani-1x": DataSet(
        title="ANI-1x: 5 million conformations of organic molecules",
        files=(RemoteFile(name="ani1x-release.h5", urls=_figshare(18112775)),),
        theory="ωB97X/6-31G(d); a part also at other levels",
        units="Hartree, Å (by convention of the format)",
        licence="see the page",
        citation="Smith et al., Sci. Data 7, 134 (2020), doi:10.1038/s41597-020-0473-z",
        page="https://doi.org/10.6084/m9.figshare.c.4712477",
    ),
    "spice": DataSet(
        title="SPICE 1.1.4: drug-like molecules and peptides, 1.1 million conformations",
        files=(
            RemoteFile(
                name="SPICE-1.1.4.hdf5",
                urls=(
                    "https://zenodo.org/records/8222043/files/SPICE-1.1.4.hdf5",
                    "https://zenodo.org/record/8222043/files/SPICE-1.1.4.hdf5",
                ),
            ),
        ),
        theory="ωB97M-D3(BJ)/def2-TZVPPD",
        units="Hartree, Bohr, gradients (by convention of the format)",
        licence="CC0 1.0",
        citation="Eastman et al., Sci. Data 10, 11 (2023), doi:10.1038/s41597-022-01882-6",
        page="https://github.com/openmm/spice-dataset",
    ),
}
