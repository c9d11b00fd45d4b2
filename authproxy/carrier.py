"""What an exchange needs of whoever carries it to the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .wire.heads import Fields, ResponseHead


class Carrier(Protocol):
    """An HTTP/1 connection with its one exchange, or an HTTP/2 stream."""

    def send_informational(self, head: ResponseHead) -> None:
        """A 1xx."""

    def send_whole(self, head: ResponseHead, content: bytes) -> None:
        """The final response, all of it, of known length; the carrier forgets the exchange."""

    def send_head(self, head: ResponseHead) -> None:
        """The final response; `head.length` says how its content will end."""

    def send_content(self, data: bytes) -> None:
        """Some content."""

    def send_end(self, trailers: Fields) -> None:
        """The response is complete; the carrier forgets the exchange."""

    def flush(self) -> None:
        """Let what was sent go out."""

    def abort(self) -> None:
        """Cut the response visibly; the carrier forgets the exchange."""

    def pause_reading(self) -> None:
        """Take no more of the request from the client for now."""

    def resume_reading(self) -> None:
        """Go on."""

    def switch(self, head: ResponseHead, early: bytes, upstream: Any) -> None:
        """Send this 101 and what came with it, then relay to this upstream transport."""
