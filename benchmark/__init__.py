"""THE PROOF: what Emend claims, measured by command. Results live in ``results/``."""
