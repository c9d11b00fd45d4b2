"""What `authproxy doctor` looks at: the running proxy, as a client meets it.

    results         what came of a check, and how it is put into words and JSON
    cures           lines to paste: authentik's trusted CIDRs above all
    stream          a socket, plain or TLS, whose every operation ends by one deadline
    requests        one request and its answer on such a stream
    target          which proxy, by which name, and how to get to it
    names           name resolution, and whether somebody listens
    certificate     TLS: chain, names, days left, version, ALPN
    health          /-/health/live/ and /-/health/ready/
    redirects       port 80, HSTS, loops
    beliefs         what authentik believes of scheme and host, read from what it sends
    identity        the checks about that: scheme, host, forged fields, client address
    websocket       a handshake on /ws/client/, a ping and a close
    heads           a large request head
    http2           a request over HTTP/2
    upstream        authentik itself, asked from this machine without the proxy
    examination     all checks of one target, in order

A check is a function that returns results; it sends a few GETs and changes nothing. The proxy
never imports this package.
"""
