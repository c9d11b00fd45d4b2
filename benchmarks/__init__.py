"""What authproxy costs beside other proxies, and where: `script/bench`, and `script/bench --micro`.

    machine     processors, limits, and what this machine is
    children    processes: pinned, measured, stopped
    stage       a directory, a certificate and the origins that stand behind every proxy
    origin      our origin: WebSockets, uploads, downloads (a program of its own)
    proxies     the five proxies: how each is configured and started
    twisted_web twisted.web's reverse proxy (a program of its own)
    load/       what asks: wrk and h2load, and generators of ours on an epoll loop
    work        the kinds of work, and which figures each gives
    suite       who does what, in which order
    results     figures in a JSON file, medians and ratios of them
    table       the same as Markdown
    workers     one worker and two
    micro       parse, forward, serialise, one event: microseconds a call, in seconds

Imports point up. Everything is on loopback; the proxy has one processor, everything else another.
"""
