#!/bin/sh
# One virtual environment per peer, from the package registry:
#
#     sh examples/benchmarks/peers/make_environments.sh [FOLDER] [nequip|mace]...
#
# FOLDER (default .peers) gets nequip/ and mace/, 1 to 2 GB each with torch's CPU build; without names, both are made.
# The peers keep their own dependencies apart from eqff's. torch has eqff's range, so that all sides run the same one;
# for the CPU build where pip would bring CUDA:
#
#     PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu sh examples/benchmarks/peers/make_environments.sh
set -eu
PYTHON=${PYTHON:-python3}
FOLDER=${1:-.peers}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- nequip mace

TORCH="torch>=2.11,<2.14"
for PEER in "$@"; do
    case $PEER in
        nequip) PACKAGES="nequip==0.19.1" ;;
        mace) PACKAGES="mace-torch==0.3.16" ;;
        *) echo "$PEER: no such peer; known are nequip, mace" >&2; exit 2 ;;
    esac
    "$PYTHON" -m venv "$FOLDER/$PEER"
    "$FOLDER/$PEER/bin/pip" install --quiet "$TORCH" "ase>=3.28,<4" $PACKAGES
    "$FOLDER/$PEER/bin/python" -c "
import importlib.metadata as m
names = '$PACKAGES'.split('==')[:1] + ['torch', 'e3nn', 'ase', 'numpy']
print('$FOLDER/$PEER:', ', '.join(f'{n} {m.version(n)}' for n in names))"
done
