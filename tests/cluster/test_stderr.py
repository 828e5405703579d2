"""Standard error is Python's alone while Ray runs, and everybody's again afterwards."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.test_cli import ROOT

CODE = """
import logging, os, sys
from cluster.stderr import python_stderr
with python_stderr():
    os.write(2, b"of C++\\n")
    print("of Python", file=sys.stderr)
    logging.warning("of a logger")
os.write(2, b"after\\n")
print("the end", file=sys.stderr)
"""


def test_what_is_not_pythons_is_left_out_as_long_as_the_block_lasts() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines() == [
        *("of Python", "WARNING:root:of a logger", "after", "the end"),
    ]
