"""What `import turnout` needs: nothing of one operating system's only."""

from __future__ import annotations

import subprocess
import sys

BARE = """
import asyncio, concurrent.futures, importlib.metadata, logging, signal, socket, subprocess, sys, tempfile, uuid
for name in ("fcntl", "termios", "resource", "pwd", "grp", "pty", "tty"):
    sys.modules[name] = None
sys.platform = "win32"
import turnout
print(turnout.__version__)
"""


def test_use_the_package_is_imported_without_what_only_unix_has():
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
