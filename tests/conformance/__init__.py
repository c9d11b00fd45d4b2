"""What the RFCs want, as tables of cases: octets sent, and which reactions are allowed."""
