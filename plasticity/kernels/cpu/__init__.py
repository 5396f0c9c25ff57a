"""Fast forms on the CPU, in float32: compiled loops and BLAS, a thread for each core."""
