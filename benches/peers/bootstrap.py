"""Makes this tool's own Python environment and continues inside it.

Needs only Python's standard library. The environment lies in `.venv` beside this file and is made
anew whenever requirements.txt changes.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"
REQUIREMENTS = HERE / "requirements.txt"


def enter() -> None:
    """Returns inside the environment; outside of it, makes it and starts this program again there."""
    if pathlib.Path(sys.prefix) == ENVIRONMENT:
        return
    if sys.version_info < (3, 10):
        sys.exit("benches/peers needs Python 3.10 or newer")
    python = ENVIRONMENT / "bin" / "python"
    # Written last, so that an installation that was cut off is started anew.
    stamp = ENVIRONMENT / "requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making {ENVIRONMENT} (about 6 GB, some minutes)", file=sys.stderr)
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS],
            check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    os.execv(python, [str(python), *sys.argv])
