"""Connections to authentik (HTTP/1.1) and the pool that keeps them.

    lessee      what a connection needs of the exchange that has it
    responses   how responses are read
    connection  one connection: writes requests, is leased, given back, closed
    server      one upstream server: its connections, how it does, in which order it is asked
    dials       which server is dialled, and which dials are under way
    dialler     how a connection is made, and in words why not
    queue       who waits for a connection, and in which order
    room        who gives way when all connections are in use
    pool        the connections of one site: who gets which
    check       one health check
    health      when servers are checked, and which of them are up

An exchange asks its site's pool for a connection (`Pool.take`) and starts its request on it
(`Connection.start`); the connection tells the exchange what comes, and goes back to the pool.
"""
