"""The one map from errors to statuses."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from authproxy import errors
from authproxy.wire.errors import ProtocolError


class StatusTests(SynchronousTestCase):
    def test_table(self) -> None:
        for error, expected in (
            (errors.UpstreamError("?"), (502, 0)),
            (errors.ConnectFailed("refused"), (503, 5)),
            (errors.NotVerified("another name"), (502, 0)),
            (errors.NoCapacity("full"), (503, 5)),
            (errors.ConnectionCut("closed"), (502, 0)),
            (errors.TimedOut("silent"), (504, 0)),
            (ProtocolError(431, "too large", "limits.head_bytes"), (431, 0)),
            (RuntimeError("a bug"), (500, 0)),
        ):
            self.assertEqual(errors.status_of(error), expected, error)

    def test_every_error_of_ours_is_in_the_table(self) -> None:
        ours = {
            value
            for value in vars(errors).values()
            if isinstance(value, type) and issubclass(value, errors.UpstreamError)
        }
        self.assertEqual(len(ours), 7)
        for error in ours:
            self.assertIn(error.status, (502, 503, 504))
            self.assertEqual(error.retry_after > 0, error.status == 503)
