"""``python -m callback_middleware``, which is the command ``callback-middleware`` too."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command. Without click: say which extra brings it, and exit with status 2."""
    try:
        from callback_middleware.cli import command
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write(
            "Error: the command needs click, which an extra brings: pip install 'callback_middleware[cli]'\n"
        )
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
