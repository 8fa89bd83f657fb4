"""A reaction path and its barrier, and how long a band takes with all images in one evaluation or one after the other.

python examples/benchmarks/neb.py ethanol-nequip            the methyl group of ethanol turns by 120 degrees
python examples/benchmarks/neb.py POTENTIAL ends.extxyz     from the first to the last frame of a file
"""

import argparse
import statistics
import time

import ase
import torch
from ase.build import minimize_rotation_and_translation
from ase.io import read, write
from ase.mep import NEB, NEBTools
from ase.optimize import BFGS, FIRE

import eqff
from eqff.artifact import default_structure
from eqff.artifact.potential import Potential
from eqff.tasks.neb import BatchedNEB


def ethanol_ends(potential: str) -> list[ase.Atoms]:
    """Ethanol, and ethanol with the hydrogens of its methyl group one place further."""
    start = read(default_structure(potential))
    end = start.copy()
    end.positions[[6, 7, 8]] = start.positions[[7, 8, 6]]
    return [start, end]


def find_path(ends: list[ase.Atoms], potential: Potential, n_images: int, fmax: float) -> BatchedNEB:
    """The band between two relaxed ends: first relaxed as it is, then with its highest image climbing."""
    for atoms in ends:
        atoms.calc = eqff.EqffCalculator(potential)
        BFGS(atoms, logfile=None).run(fmax=0.1 * fmax, steps=500)
    minimize_rotation_and_translation(ends[0], ends[1])
    images = [ends[0]] + [ends[0].copy() for _ in range(n_images - 2)] + [ends[1]]
    band = BatchedNEB(images, potential, k=0.5)
    band.interpolate("idpp")
    FIRE(band, logfile=None).run(fmax=5 * fmax, steps=300)
    band.climb = True
    converged = FIRE(band, logfile=None).run(fmax=fmax, steps=500)
    print(f"path of {n_images} images {'converged' if converged else 'NOT CONVERGED'} to {fmax} eV/Å")
    return band


def time_band(images: list[ase.Atoms], potential: Potential, repeats: int) -> tuple[float, float]:
    """Seconds for the forces of a whole band that has moved: together, one after the other (medians, alternating)."""
    together = BatchedNEB([image.copy() for image in images], potential)
    single = [image.copy() for image in images]
    for image in single:
        image.calc = eqff.EqffCalculator(potential)
    one_by_one = NEB(single, method="improvedtangent")
    seconds: list[list[float]] = [[], []]
    for repeat in range(repeats + 3):
        for band, times in zip((together, one_by_one), seconds, strict=True):
            for image in band.images:
                image.rattle(1e-3, seed=repeat)
            began = time.perf_counter()
            band.get_forces()
            times.append(time.perf_counter() - began)
    return statistics.median(seconds[0][3:]), statistics.median(seconds[1][3:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential")
    parser.add_argument("ends", nargs="?", help="file with the two ends, atoms in the same order")
    parser.add_argument("--images", type=int, default=9)
    parser.add_argument("--fmax", type=float, default=0.02, help="eV/Å")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("-o", "--output", help="file for the images of the path")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    potential = eqff.load(arguments.potential, dtype=arguments.dtype)
    frames = read(arguments.ends, ":") if arguments.ends else ethanol_ends(arguments.potential)
    band = find_path([frames[0], frames[-1]], potential, arguments.images, arguments.fmax)
    energies = [image.get_potential_energy() - band.images[0].get_potential_energy() for image in band.images]
    print("energies along the path (eV): " + " ".join(f"{energy:.4f}" for energy in energies))
    barrier, change = NEBTools(band.images).get_barrier()
    if arguments.output:
        write(arguments.output, band.images)
    batched, serial = time_band(band.images, potential, arguments.repeats)
    print(
        f"forces of the band: {1e3 * batched:.1f} ms together, {1e3 * serial:.1f} one by one: {serial / batched:.1f} "
        f"times as fast (1 thread, {potential.dtype}, torch {torch.__version__}, ase {ase.__version__})"
    )
    print(f"barrier {barrier:.4f} eV, energy of the other end {change:+.4f} eV")
