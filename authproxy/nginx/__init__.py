"""From an nginx configuration to an authproxy.toml. The modules, from the bottom up:

    reading         files -> directives, includes followed
    blocks          directives -> servers, locations, upstreams, and what is in force in them
    draft           the settings and remarks that are collected, and their TOML
    words           what is said of directives that become no setting
    checked         a text of nginx as a value of the settings
    names, listens, origins, access, security, limits
                    a few kinds of directive each -> settings
    sites           which servers and locations are authentik's, and what becomes of each
    rest            servers that are none, files that are missing, logs
    listen_table    [listen] as a whole
    translation     all of it: directives -> the text of a configuration

Only `reading` opens files, and only it knows the parser.
"""
