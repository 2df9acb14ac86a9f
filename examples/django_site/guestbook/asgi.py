"""The site as an application of ASGI, with its WebSocket."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guestbook.settings")
pages = get_asgi_application()

# What uses models is imported once Django is set up.
from guestbook.consumers import Guests  # noqa: E402

application = ProtocolTypeRouter(
    {"http": pages, "websocket": AllowedHostsOriginValidator(URLRouter([path("live", Guests.as_asgi())]))}
)
