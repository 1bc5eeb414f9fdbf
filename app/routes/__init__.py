"""One module of routes for each noun of the HTTP contract."""
