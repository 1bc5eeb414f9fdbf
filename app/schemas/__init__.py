"""The JSON shapes of the HTTP contract, one module for each noun."""
