"""`python -m turnout.cli`."""

from turnout.cli import main

main(prog_name="turnout")
