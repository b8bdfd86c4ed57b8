"""The benchmark: our pair as it is really used, beside plaintext, our relay without TLS, and Debian's haproxy."""
