"""Does the registry stay as quick as it grows? The same operations on 10 k and 1 M corrections."""
