"""The training loop: step, loss, optimisers, averaged weights, checkpoints."""
