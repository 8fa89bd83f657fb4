"""Your own TorchScript energy model as a potential file: examined, verified, and run like any other potential.

The model here is a Morse potential between argon atoms, cut off smoothly at 7 Å.  Yours may be any network with this
signature, or one that takes a dictionary (`eqff wrap --help`).

python examples/05_wrap_your_own_model.py
"""

import torch
from ase.build import bulk
from torch import Tensor, nn

from eqff import EqffCalculator
from eqff.tasks.wrap import WrapConfig, wrap


class Morse(nn.Module):
    """Energies per atom, here in kJ/mol, from edges between neighbours, here in nm."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Parameter(torch.tensor([1.19], dtype=torch.float64))  # kJ/mol, one for each species

    def forward(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        r = edge_vector.square().sum(1).sqrt()  # nm
        decay = torch.exp(-17.0 * (r - 0.376))
        envelope = (1.0 - (r / 0.7) ** 6).clamp(min=0.0).pow(3)
        pair = self.depth[species[receivers]] * (decay * decay - 2.0 * decay) * envelope
        energy = torch.zeros_like(species, dtype=pair.dtype)
        return energy.index_add(0, receivers, 0.5 * pair)


torch.jit.script(Morse()).save("morse.pt")

# the same as: eqff wrap morse.pt --species Ar --r-max 7 --units kJ/mol,nm -o morse.eqff.pt --trust
report = wrap(
    WrapConfig(
        model="morse.pt",
        output="morse.eqff.pt",
        species=("Ar",),
        r_max=7.0,  # Å
        energy_unit="kJ/mol",
        length_unit="nm",
        trust=True,  # a TorchScript file is a program; this script has just written it
        force=True,
    )
)
for check in report.checks:
    print(f"{check.check:<12} {'passed' if check.passed else 'FAILED'}")

atoms = bulk("Ar", "fcc", a=5.26)
atoms.calc = EqffCalculator("morse.eqff.pt")
print(f"cohesive energy of argon {-1000 * atoms.get_potential_energy():.1f} meV/atom (experiment: 80)")
