"""A stand-in of an authentik server, for `authproxy demo` and for tests.

    page        what authentik would believe of a request, and the page and JSON that show it
    inquiry     a request, with its fields in order
    websocket   /ws/client/: the handshake as it arrived, a tick a second, an echo
    server      paths, their answers, and StandIn, which is all that others need

It answers as authentik does where a proxy can tell the difference (health, start-up, WebSockets)
and shows every request as it arrived. It is not a server for anything else, and the proxy itself
never imports it.
"""
