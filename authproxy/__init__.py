"""authproxy: the front door of an authentik server.

The layers, from the bytes up; a module imports only from those above it in this list:

    wire/               HTTP/1.1 as pure functions: grammar, message heads, framing, body readers
    trust               who the client is
    forwarding, sites, spellings, guards, pages, acme
                        what is forwarded, which site it is for, who may not have it, the answers
                        that are made here
    settings, places, values, presets, crosschecks, config, toml
                        the way from a TOML file to settings, and back; what is known of CDNs
    deadlines, memory, errors, saying, linefile, accesslog, sitecounts, counters
                        clocks, memory given back, faults and their statuses, request lines, what
                        is counted
    notify, outlet, operations_log
                        the service manager, the log of operations
    certificate_names, certificates, certificate_notes, self_signed, certificate_copies
                        who we are to clients: certificates, keys, and the files they come from
    upstream_tls, files, identity
                        who upstream must be; TLS contexts of both sides
    loading             from a command line to all that is configured
    transport/          sockets on Twisted's reactor: eager TCP, socket-bound TLS, PROXY header,
                        the accept loop, dialling
    upstream/           connections to authentik, and the pool that keeps them
    carrier, exchange   one request and its final response, whatever carries it
    relay               bytes both ways after a 101
    waiting             how much waits for clients, in all
    gateway             what all exchanges share: sites, trust, limits, answers made here
    downstream/         connections from clients
    announcement, metrics, admin/
                        what operators see of it
    listeners, service, assembly, workers
                        listeners, pools and timers as Twisted services, from start to drain, in
                        one process or in several
    reloads, control, daemon
                        what reaches a running proxy: new settings, new certificates, signals
    tap                 the wiring: from a command line to a service
    worker              a worker process, from its start to its end
    nginx/              an nginx configuration -> the one of authproxy that does the same
    standin/            a stand-in for authentik, for the demo and the tests
    doctor/             what `authproxy doctor` looks at, as a client of the running proxy
    commands/           the `authproxy` command

Inside a package no two modules import each other.

*downstream* is towards the clients, *upstream* towards authentik. An *exchange* is one request and
its final response. A *lease* is the time in which an exchange has an upstream connection. A
*deadline* is a moment, a *timeout* a length. To *drain* is to finish and then close, to *abort* is
to close now.
"""

__version__ = "0.1.0"
