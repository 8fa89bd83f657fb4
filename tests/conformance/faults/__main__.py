"""The table of planted faults, as Markdown; with --all every check is run on every broken model and counted."""

import argparse

from eqff.validation.examination import checks_for

from ..exam import Exam, names, prepared
from . import FAULTS, Fault, noticed, planted


def table(count_all: bool = False) -> str:
    """A line for every fault: what must notice it, and in which families it does (– where there is no such block)."""
    lines = [
        f"| fault | noticed by | {' | '.join(names())} |",
        f"| --- | --- |{' --- |' * len(names())}",
    ]
    for fault in FAULTS:
        wanted = ", ".join(check.name for check in fault.red)
        cells = []
        for name in names():
            with planted(fault, prepared(name)) as broken:
                cells.append("–" if broken is None else cell(fault, broken, count_all))
        lines.append(f"| {fault.what} | {wanted} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(fault: Fault, broken: Exam, count_all: bool) -> str:
    """red, or the names of checks that stay green; with count_all how many of all checks are red."""
    if count_all:
        checks = checks_for(broken)
        return f"{sum(noticed(check, broken) for check in checks)} of {len(checks)}"
    green = [check.name for check in fault.red if not noticed(check, broken)]
    return f"green: {', '.join(green)}" if green else "red"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="count the red ones among all checks (minutes)")
    print(table(parser.parse_args().all))
