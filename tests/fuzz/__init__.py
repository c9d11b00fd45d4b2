"""Fuzz targets: octets in, nothing out; what they raise is a bug of the proxy, or of the target.

    parsers      heads, chunks, PROXY headers, X-Forwarded-For, spellings of paths, configurations
    connections  a whole proxy on fake transports, spoken to in HTTP/1.1 and HTTP/2
    targets      their names, what each begins with, a mutator that is the same on every run
    __main__     script/fuzz TARGET --minutes N

The tests run a moment of each. A finding becomes a file of tests/corpus or a test of its own.
"""
