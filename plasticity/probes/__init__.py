"""Probes: what a linear readout can tell from a layer's encodings."""
