"""`once.py NAME` runs a program of this directory as it is, and stays, as a server would."""

import pathlib
import runpy
import sys
import time

runpy.run_path(str(pathlib.Path(__file__).with_name(f"{sys.argv[1]}.py")), run_name="__main__")
time.sleep(1e6)
