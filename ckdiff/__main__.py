"""`python -m ckdiff`."""

from ckdiff.cli import main

main()
