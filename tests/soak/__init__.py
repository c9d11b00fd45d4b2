"""Mixed traffic for as long as asked, every octet of which is known beforehand: script/soak.

origin.py is the upstream server, traffic.py what clients do, faults.py what is done to the proxy and
its origin meanwhile, record.py what counts as wrong, figures.py memory and descriptors.
"""
