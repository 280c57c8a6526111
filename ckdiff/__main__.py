"""`python -m ckdiff`."""

from ckdiff.cli.app import main

main()
