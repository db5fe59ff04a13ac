# SPDX-License-Identifier: GPL-2.0-only
"""Entry point of `klp-e2e`, and `python -m orchestrator`.

Ctrl-C is understood from here on, also in the second that the command's own modules take to load.
"""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    try:
        from orchestrator import cli

        cli.main()
    except KeyboardInterrupt:
        sys.exit(130)  # errors.Exit.INTERRUPTED, which may not have been read yet
    except ImportError as err:
        print(f"klp-e2e: the installation is not whole: {err}", file=sys.stderr)
        sys.exit(4)  # errors.Exit.HARNESS, and not Python's 1


if __name__ == "__main__":
    main()
