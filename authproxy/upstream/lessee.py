"""What an upstream connection needs of who has its lease."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..errors import UpstreamError
    from ..wire.errors import ProtocolError
    from ..wire.heads import Fields, ResponseHead


class Lessee(Protocol):
    """What a connection tells of its response: the exchange. `started`: when, in clock seconds."""

    started: float

    @property
    def moved(self) -> int:
        """Octets of content that came and went since then."""

    def response_informational(self, head: ResponseHead) -> None:
        """A 1xx other than 101."""

    def response_whole(self, head: ResponseHead, content: bytes) -> None:
        """The final response, complete; the connection is no longer the exchange's."""

    def response_head(self, head: ResponseHead) -> None:
        """The final response begins."""

    def response_content(self, data: bytes) -> None:
        """Some of its content."""

    def response_end(self, trailers: Fields) -> None:
        """It is complete; the connection is no longer the exchange's."""

    def response_flush(self) -> None:
        """What one segment brought has all been told."""

    def response_switching(self, head: ResponseHead, early: bytes) -> None:
        """A proper 101; `early` came with it. The transport is the exchange's to take."""

    def upstream_failed(self, error: UpstreamError | ProtocolError) -> None:
        """There will be no (more) response; the connection is gone."""

    def pause_request(self) -> None:
        """Upstream takes no more for now."""

    def resume_request(self) -> None:
        """It takes more again."""
