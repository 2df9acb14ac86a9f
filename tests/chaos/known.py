"""What is known to be wrong and is left out until it is mended, so that what is new is seen."""

from __future__ import annotations

#: Of a pipeline whose client shuts its sending side, what is behind a slow answer is not answered.
HALF_CLOSED_PIPELINES = True
#: What others publish while a socket unsubscribes may be lost, or come behind it.
LEAVING_TOPICS = True
#: Handlers that were replaced are kept.
REPLACED_HANDLERS = True
