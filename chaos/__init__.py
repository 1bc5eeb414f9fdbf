"""THE STORM: the deployed stack under traffic and faults, and an audit of what is left."""
