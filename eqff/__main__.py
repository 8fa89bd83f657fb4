"""`python -m eqff` is `eqff`."""

from eqff.cli import main

if __name__ == "__main__":
    main()
