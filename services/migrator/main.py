"""Migrator entrypoint: `python -m services.migrator.main upgrade`."""

import sys

from nexus.config import settings_or_exit
from nexus.log import configure_logging
from nexus.migrator.cli import main

if __name__ == "__main__":
    settings = settings_or_exit()
    configure_logging(settings)
    sys.exit(main(sys.argv[1:], settings))
