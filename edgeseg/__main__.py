"""Run the command line with `python -m edgeseg`."""

from edgeseg.cli.app import main

main()
