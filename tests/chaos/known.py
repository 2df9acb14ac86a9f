"""What is known to be wrong and is left out until it is mended, so that what is new is seen."""

from __future__ import annotations

#: What others publish while a socket unsubscribes may be lost, or come behind it.
LEAVING_TOPICS = True
