"""The WebSocket of the guest book."""

from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer


class Guests(AsyncWebsocketConsumer):
    """Tells a page what others have written."""

    groups = ("guests",)

    async def written(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])
