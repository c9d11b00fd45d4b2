"""HTTP/1.1 messages as pure functions of octets: no sockets, no clock, no Twisted.

    grammar     the productions, as compiled expressions and octet tables
    errors      ProtocolError: whose fault, which status, which limit
    heads       RequestHead, ResponseHead, HeadLimits
    sections    a field section: octets -> fields, or the reason why not
    incomplete  a head or trailer section in pieces: each octet looked at once, early refusals
    framing     how long the content is, whether the connection lasts
    requests    octets -> RequestHead
    responses   octets -> ResponseHead
    bodies      readers that find the content in the octets after a head
    serialise   heads and chunks -> octets
    websocket   the opening handshake of RFC 6455

Every parser returns, asks for more octets, or raises ProtocolError; nothing else leaves this
package. What it returns is complete and validated, and the serialiser writes it anew: no octet is
copied from one side to the other without having matched a production.

It does not know which fields are forwarded, who is trusted or what an error page looks like.
RFC 9110 (semantics), RFC 9112 (HTTP/1.1), RFC 6455 (WebSocket).
"""
