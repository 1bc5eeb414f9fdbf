"""Real servers of Debian's packages, on free loopback ports: for tests, storms and measurements."""
