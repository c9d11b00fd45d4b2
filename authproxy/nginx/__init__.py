"""From an nginx configuration to an authproxy.toml. The modules, from the bottom up:

    reading         files -> directives, includes followed
    blocks          directives -> servers, locations, upstreams, and what is in force in them
    words           what is said of directives that become no setting
    draft           the settings and remarks that are collected, and their TOML
    names, listens, origins, access
                    one kind of directive each -> settings
    limits          times, sizes and other numbers
    sites           which servers and locations are authentik's, and what becomes of each
    translation     all of it: directives -> the text of a configuration

Only `reading` opens files, and only it knows the parser.
"""
