"""The command line: commands for operators (`serve`, `migrate`, …) and one for each service of the API.

`authsvc probe` runs every few seconds for as long as a container does, and the modules of all commands take
more than a second of a core to load. So it is the one command that is run without them.
"""

import sys


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:2] == ["probe"]:
        from authsvc.cli.probe import main as probe

        sys.exit(probe(sys.argv[2:]))
    from authsvc.cli.commands import main as run

    run()
