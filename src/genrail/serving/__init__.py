"""Serve an engine over HTTP: questions gathered into batches, live changes, keys, limits, metrics."""

from genrail.serving.application import create_application
from genrail.serving.service import Service
from genrail.serving.settings import Limits, ServeSettings

__all__ = ["Limits", "ServeSettings", "Service", "create_application"]
