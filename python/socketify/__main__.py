"""``python -m socketify``."""

import sys

from .processes.command_line import main

if __name__ == "__main__":
    sys.exit(main(program="python -m socketify"))
