"""Engines: adapters that give a simulation code what it asks of a potential; one file or folder each.

    structure = potential.structure(positions, atomic_numbers, cell, pbc)   gate and neighbour list
    batch = batch_structures(structures)                                    eqff.graph: several at once
    results = potential(batch)                                              EnergyForces, made in eqff/potential.py

An adapter calls `potential.check_whole` (a difference from a baseline is not whole), refuses results that are
not finite (`check_finite` of eqff.artifact.potential), prints nothing and changes no global state of torch.
"""
