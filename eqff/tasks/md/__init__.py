"""Molecular dynamics with files, exact restart and a guard; `run_md` and `run_replicas` are the task.

config.py        MDConfig: all settings of a run
run.py           the loop: step, check, write
integrators.py   ASE's integrators, and their internal state for checkpoints
guard.py         limits that stop a run when results become unphysical
trajectory.py    one writer per suffix; a restart truncates its file to the checkpoint
checkpoint.py    the state of a run in one file
observables.py   pair distances and vibrational spectrum, collected during the run; drift
report.py        MDSample, MDReport
replicas.py      the same run with several seeds
velocities.py    initial velocities and degrees of freedom
"""

from eqff.tasks.md.config import MDConfig
from eqff.tasks.md.guard import Limits
from eqff.tasks.md.observables import drift
from eqff.tasks.md.replicas import run_replicas
from eqff.tasks.md.report import LOG_HEADER, MDReport, MDSample
from eqff.tasks.md.run import run_md

__all__ = ["LOG_HEADER", "Limits", "MDConfig", "MDReport", "MDSample", "drift", "run_md", "run_replicas"]
