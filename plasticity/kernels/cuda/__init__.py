"""Fast forms on a GPU, in float32 and float64: the `.cu` files of this folder."""
