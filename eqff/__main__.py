"""`python -m eqff` is `eqff`."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts the working directory first: a file torch.py there must not be run
    if not sys.flags.safe_path and sys.path[0] == os.getcwd() and Path(__file__).resolve().parents[1] != Path.cwd():
        del sys.path[0]

    from eqff.cli import main

    main()
