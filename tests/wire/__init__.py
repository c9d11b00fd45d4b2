"""HTTP/1.1 as octets: one module of tests for each module of authproxy.wire."""
