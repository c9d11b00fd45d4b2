"""`twistd authproxy`."""

from twisted.application.service import ServiceMaker

authproxy = ServiceMaker(
    "authproxy", "authproxy.tap", "The front door of an authentik server.", "authproxy"
)
