"""What editing a backbone costs: numbers trained, FLOPs, CPU time, memory and file, by method."""
