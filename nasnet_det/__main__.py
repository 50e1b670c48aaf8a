"""``python -m nasnet_det`` is the command ``nasnet-det``."""

import sys

from nasnet_det.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
