"""The socket layer: Twisted transports that write eagerly and speak TLS on the socket itself."""
