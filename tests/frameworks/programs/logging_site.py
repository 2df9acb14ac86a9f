"""An application that configures logging itself, in one of the usual ways: LOGGING says which."""

from __future__ import annotations

import logging
import logging.config
import os
from typing import Any

from flask import Flask

if os.environ["LOGGING"] == "basic":
    logging.basicConfig(level=logging.INFO, format="OURS %(name)s %(message)s")
elif os.environ["LOGGING"] == "dict":
    configuration: dict[str, Any] = {
        "version": 1,
        "formatters": {"ours": {"format": "OURS %(name)s %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "ours"}},
        "root": {"level": "INFO", "handlers": ["console"]},
    }
    logging.config.dictConfig(configuration)

app = Flask(__name__)
logger = logging.getLogger("shop")


@app.get("/")
def home() -> str:
    logger.warning("somebody is here")
    return "home"


@app.get("/loggers")
def loggers() -> dict[str, Any]:
    root = logging.getLogger()
    return {"handlers": len(root.handlers), "level": root.level}
