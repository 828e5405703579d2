"""`python -m batch_jobs.hosted FILES_URI OWNER BATCH_ID [--lifeline]`: the job of a server's batch.

The server starts it. Run again, it goes on; while it runs, a second one ends at once. With
`--lifeline` it stops when its standard input ends.
"""

from __future__ import annotations

import logging
import sys

from batch_jobs.hosted.lifeline import end_with
from batch_jobs.hosted.run import run_batch
from batch_jobs.stopping import Exit
from engine.errors import EngineError, OutputBusy
from storage.batch_store import BatchStore
from storage.storage import Storage

logger = logging.getLogger(__name__)


LIFELINE = "--lifeline"


def main(files_uri: str, owner: str, id: str, *flags: str) -> int:
    """Do a batch; returns 0 when it is over, and otherwise why it is to be run again."""
    if LIFELINE in flags:
        end_with(sys.stdin.fileno())
    try:
        return run_batch(BatchStore(Storage.open(files_uri), owner), id)
    except OutputBusy:
        return Exit.REFUSED
    except (EngineError, OSError) as error:
        logger.error("%s: stopped: %s; run again, it goes on", id, error)
        return Exit.STOPPED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
