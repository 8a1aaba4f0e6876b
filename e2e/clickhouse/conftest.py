"""The tests of the endpoint run in the Python that has the engine, which `./dev test` starts for
them; the other whole-system tests run in one that has it not."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("chdb") else ["test_server.py", "test_dashboard.py"]
