"""The data sets of the comparison, read where their owners unpacked them. Nothing is downloaded."""
