"""Orders of frames: a function of seed and epoch and of nothing else."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from eqff.data.samplers import FrameSampler


@given(st.integers(1, 50), st.integers(0, 2**40), st.integers(0, 1000))
def test_order_is_a_function_of_seed_and_epoch(n_frames, seed, epoch):
    sampler = FrameSampler(n_frames, shuffle=True, seed=seed)
    for earlier in range(3):  # what was drawn before does not matter
        sampler.set_epoch(earlier)
        list(sampler)
    sampler.set_epoch(epoch)
    state = torch.get_rng_state()
    resumed = FrameSampler(n_frames, shuffle=True, seed=seed)
    resumed.set_epoch(epoch)
    assert list(sampler) == list(resumed)
    assert sorted(sampler) == list(range(n_frames))
    assert torch.equal(state, torch.get_rng_state())  # the global generator is left alone


def test_epochs_and_seeds_differ():
    orders = set()
    for seed in range(4):
        for epoch in range(4):
            sampler = FrameSampler(20, shuffle=True, seed=seed)
            sampler.set_epoch(epoch)
            orders.add(tuple(sampler))
    assert len(orders) == 16
