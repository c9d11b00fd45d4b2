"""authproxy: the front door of an authentik server.

The layers, from the bytes up; a module imports only from those above it in this list:

    wire/           HTTP/1.1 as pure functions: grammar, message heads, framing, body readers
    trust, forwarding, sites, config, pages
                    pure rules: who the client is, what is forwarded, which site, which settings
    transport/      sockets on Twisted's reactor: eager TCP, socket-bound TLS, PROXY header,
                    the accept loop, dialling
    certificates    TLS contexts of both sides
    upstream/       connections to authentik, and the pool that keeps them
    exchange        one request and its final response, whatever carries it
    relay           bytes both ways after a 101
    downstream/     connections from clients
    service, tap    listeners, pools and timers as Twisted services; the wiring

*downstream* is towards the clients, *upstream* towards authentik. An *exchange* is one request and
its final response. A *lease* is the time in which an exchange has an upstream connection. A
*deadline* is a moment, a *timeout* a length. To *drain* is to finish and then close, to *abort* is
to close now.
"""

__version__ = "0.1.0"
