"""Training of models on energies and forces, with Lightning."""
